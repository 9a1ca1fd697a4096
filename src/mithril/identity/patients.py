"""The register of patients (MPI), where one is set: `GET {endpoint}/persons/{id}` (rule SGN-48)."""

import msgspec

from mithril.identifiers import parse_uuid
from mithril.identity import services
from mithril.identity.services import Service
from mithril.settings import Settings

NOT_FOUND = 404


class Patient(msgspec.Struct, frozen=True):
    """A patient as the register has them."""

    tax_id: str | None = None
    status: str | None = None


class _Envelope(msgspec.Struct):
    data: Patient


async def find(settings: Settings, person_id: str) -> Patient | None:
    """Return the patient, or None where the register has none. Raises ServiceUnavailable for any other answer."""
    known = parse_uuid(person_id)
    if known is None:
        return None
    timeout_seconds = settings.mpi_request_timeout / services.MILLISECONDS
    register = Service("register of patients", settings.mpi_endpoint, timeout_seconds)
    answer = await services.ask(register, "GET", f"/persons/{known}")
    if answer.status == NOT_FOUND:
        return None
    return answer.decoded(_Envelope).data
