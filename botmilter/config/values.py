"""Kinds of values that several tables have, and what every table is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from botmilter import kinds
from botmilter.model import IPAddress, IPNetwork

Seconds = Annotated[float, Field(gt=0, le=3600)]
Days = Annotated[float, Field(gt=0, le=365)]
MinutesOfBlame = Annotated[float, Field(gt=0, le=60)]
MinutesOfDoubt = Annotated[float, Field(gt=0, le=1440)]
Limit = Annotated[Seconds, Field(description="Longest one measurement may take.")]
AtOnce = Annotated[
    int, Field(ge=1, le=1000, description="Measurements at the same time, in each process.")
]
PerTime = Annotated[int, Field(ge=0, le=1_000_000)]
Network = Annotated[IPNetwork, BeforeValidator(kinds.network)]
Networks = Annotated[tuple[Network, ...], Strict(False)]
Address = Annotated[IPAddress, BeforeValidator(kinds.host_address)]
Addresses = Annotated[tuple[Address, ...], Strict(False), Field(max_length=8)]
Relays = Annotated[tuple[Annotated[IPNetwork, BeforeValidator(kinds.relays)], ...], Strict(False)]
Names = Annotated[tuple[Annotated[str, AfterValidator(kinds.own_name)], ...], Strict(False)]
Weight = Annotated[float, Field(ge=-100, le=100)]
Weights = Annotated[
    Mapping[Annotated[str, AfterValidator(kinds.signal)], Weight],
    BeforeValidator(kinds.by_name),
]


class Table(BaseModel):
    """One table of the file.  Strict: ``"5"`` is no number, and an unknown key is a problem."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
