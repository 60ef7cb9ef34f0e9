"""What a run may take: the types of the flows' parameters `budget` and `hours`."""

from typing import Annotated

from pydantic import Field

Usd = Annotated[float, Field(gt=0, allow_inf_nan=False, json_schema_extra={"description": "USD"})]
Hours = Annotated[float, Field(gt=0, allow_inf_nan=False)]
