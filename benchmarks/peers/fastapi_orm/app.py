"""The two operations in FastAPI with the SQLAlchemy ORM, in the usual style, on the tables of the service.

The checks, the fields of the answers and the audit row are those of the service; the ORM reads and writes them.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, ClassVar
from uuid import UUID

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import DateTime, ForeignKey, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

url = os.environ["PEER_DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
engine = create_async_engine(url, pool_size=10, max_overflow=0, pool_timeout=10)
new_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Base(DeclarativeBase):
    """The tables, as far as the two operations need them."""

    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True), dict: JSONB}


class User(Base):
    __tablename__ = "users"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    is_blocked: Mapped[bool]


class ClientType(Base):
    __tablename__ = "client_types"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]


class Client(Base):
    __tablename__ = "clients"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    client_type_id: Mapped[UUID] = mapped_column(ForeignKey("client_types.id"))
    priv_settings: Mapped[dict]
    is_blocked: Mapped[bool]
    client_type: Mapped[ClientType] = relationship()


class Connection(Base):
    __tablename__ = "connections"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    consumer_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    redirect_uri: Mapped[str]
    secret_digest: Mapped[bytes]
    version: Mapped[int]
    inserted_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    client: Mapped[Client] = relationship(foreign_keys=[client_id])


class Token(Base):
    __tablename__ = "tokens"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[bytes]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    connection_id: Mapped[UUID | None] = mapped_column(ForeignKey("connections.id"))
    scope: Mapped[str | None]
    details: Mapped[dict]
    expires_at: Mapped[datetime]
    user: Mapped[User] = relationship()
    client: Mapped[Client] = relationship()
    connection: Mapped[Connection | None] = relationship()


class AuditEvent(Base):
    __tablename__ = "audit_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[str]
    subject_id: Mapped[UUID]
    client_id: Mapped[UUID]
    actor_user_id: Mapped[UUID]
    actor_client_id: Mapped[UUID]
    api_key_client_id: Mapped[UUID | None]
    network_address: Mapped[str | None]
    old: Mapped[dict]
    new: Mapped[dict]


class ConnectionUpdate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    redirect_uri: str = Field(pattern="^https://.+", max_length=2048)


class ConnectionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: UUID
    client_id: UUID
    consumer_id: UUID
    redirect_uri: str
    inserted_at: datetime
    updated_at: datetime


class TokenOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: UUID
    name: str
    user_id: UUID
    client_id: UUID
    scope: str | None
    details: dict
    expires_at: datetime
    broker_scope: str | None = None
    mis_client_id: UUID | None = None


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


def digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()


async def find_token(db: AsyncSession, value: str) -> Token:
    found = await db.scalar(
        select(Token)
        .where(Token.digest == digest(value))
        .options(
            joinedload(Token.user),
            joinedload(Token.connection),
            joinedload(Token.client).joinedload(Client.client_type),
        )
    )
    if found is None or found.name != "access_token" or found.expires_at <= datetime.now(UTC):
        raise HTTPException(401, "Access denied")
    if found.user.is_blocked or found.client.is_blocked:
        raise HTTPException(401, "Access denied")
    return found


async def find_broker(db: AsyncSession, token: Token, api_key: str | None) -> Client | None:
    if token.client.priv_settings.get("access_type") != "BROKER":
        return None
    key = await db.scalar(
        select(Connection)
        .where(Connection.secret_digest == digest(api_key or ""))
        .options(joinedload(Connection.client))
    )
    if key is None or key.client.is_blocked or not key.client.priv_settings.get("broker_scope"):
        raise HTTPException(401, "Access denied")
    if token.connection is not None and token.connection.consumer_id != key.client_id:
        raise HTTPException(401, "Access denied")
    return key.client


@app.patch("/api/clients/{client_id}/connections/{connection_id}")
async def update_connection(
    client_id: UUID,
    connection_id: UUID,
    body: ConnectionUpdate,
    request: Request,
    db: Session,
    authorization: Annotated[str, Header()],
    api_key: Annotated[str | None, Header()] = None,
) -> ConnectionOut:
    token = await find_token(db, authorization.removeprefix("Bearer "))
    broker = await find_broker(db, token, api_key)
    if "connection:write" not in (token.scope or "").split():
        raise HTTPException(403, "Invalid scopes")
    if broker is not None and "connection:write" not in broker.priv_settings["broker_scope"].split():
        raise HTTPException(403, "Invalid scopes")
    if token.client_id != client_id:
        raise HTTPException(403, "Forbidden")
    connection = await db.scalar(
        select(Connection).where(Connection.id == connection_id, Connection.client_id == client_id).with_for_update()
    )
    if connection is None:
        raise HTTPException(404)
    if connection.redirect_uri != body.redirect_uri:
        db.add(
            AuditEvent(
                action="connection.update",
                subject_id=connection.id,
                client_id=connection.client_id,
                actor_user_id=token.user_id,
                actor_client_id=token.client_id,
                api_key_client_id=broker.id if broker else None,
                network_address=request.client.host if request.client else None,
                old={"redirect_uri": connection.redirect_uri},
                new={"redirect_uri": body.redirect_uri},
            )
        )
        connection.redirect_uri = body.redirect_uri
        connection.version += 1
        connection.updated_at = datetime.now(UTC)
    await db.commit()
    return ConnectionOut.model_validate(connection)


@app.get("/admin/tokens/{value}/verify")
async def verify(value: str, db: Session, api_key: Annotated[str | None, Header()] = None) -> TokenOut:
    token = await find_token(db, value)
    broker = await find_broker(db, token, api_key)
    answer = TokenOut.model_validate(token)
    if broker is not None:
        answer.broker_scope, answer.mis_client_id = broker.priv_settings["broker_scope"], broker.id
    return answer
