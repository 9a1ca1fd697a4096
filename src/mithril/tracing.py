"""Traces: a span for each request, its access check and its statements, sent by OpenTelemetry.

Off unless MITHRIL_TRACES_ENDPOINT says where spans go; then the packages of the optional extra `traces` are needed. No
span has a path, a query, a header, the argument of a statement, or the message of an error: any of them could repeat a
secret.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import mithril
from mithril.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

EXPORT_SECONDS = 5
# The headers by which a trace goes on in another service (W3C Trace Context).
CARRIED = frozenset({b"traceparent", b"tracestate"})
NOTHING: AbstractContextManager[None] = nullcontext()

_tracer: "Tracer | None" = None
_provider: "TracerProvider | None" = None


def start(settings: Settings) -> None:
    """Send the spans of this process from now on, where the settings say where to."""
    global _provider, _tracer  # noqa: PLW0603 -- a process has one
    if not settings.traces_endpoint or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    _provider = TracerProvider(
        resource=Resource({"service.name": "mithril", "service.version": mithril.__version__}),
        sampler=ParentBasedTraceIdRatio(settings.traces_share),
    )
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.traces_endpoint, timeout=EXPORT_SECONDS)))
    _tracer = _provider.get_tracer("mithril", mithril.__version__)


def stop() -> None:
    """Send the spans that are left, within a few seconds."""
    if _provider is not None:
        _provider.shutdown()


def is_on() -> bool:
    """Return whether this process sends spans."""
    return _tracer is not None


def span(name: str, attributes: Mapping[str, str] | None = None) -> AbstractContextManager[Any]:
    """Return a span around the block, as a child of the span that the caller is in; none where traces are off."""
    if _tracer is None:
        return NOTHING
    return _tracer.start_as_current_span(name, attributes=attributes, record_exception=False)


def request_span(method: str, headers: list[tuple[bytes, bytes]]) -> AbstractContextManager[Any]:
    """Return the span of a request, which goes on with the trace that its headers name."""
    from opentelemetry import propagate, trace  # noqa: PLC0415

    assert _tracer is not None, "asked only where traces are on"
    carried = {name.decode(): value.decode("latin-1") for name, value in headers if name in CARRIED}
    return _tracer.start_as_current_span(
        method, context=propagate.extract(carried), kind=trace.SpanKind.SERVER, record_exception=False
    )


def describe(name: str, attributes: Mapping[str, str | int], *, is_error: bool) -> str:
    """Give the current span its name and what is known of it by now; return the id of its trace, 32 hex digits."""
    from opentelemetry import trace  # noqa: PLC0415

    current = trace.get_current_span()
    current.update_name(name)
    current.set_attributes(attributes)
    if is_error:
        current.set_status(trace.StatusCode.ERROR)
    return trace.format_trace_id(current.get_span_context().trace_id)


def hooks() -> Mapping[str, list[Callable[..., Any]]]:
    """Return the event hooks of an httpx client, by which another service goes on with the trace."""
    return {"request": [_carry]} if is_on() else {}


async def _carry(request: Any) -> None:  # noqa: ANN401 -- of httpx, whose import takes long
    from opentelemetry import propagate  # noqa: PLC0415

    propagate.inject(request.headers)
