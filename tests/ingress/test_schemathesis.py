"""Whatever /openapi.json allows, and much that it does not, is posted to a real ingress over real servers: it never fails by itself."""

import asyncio
import random
from contextlib import nullcontext, suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from infra.settings import Settings
from ingress.app import create_app
from ingress.openapi import document
from tests.installation import Installation

pytestmark = [pytest.mark.servers, pytest.mark.timeout(280)]

EXAMPLES = 5
SERVER_ERROR = 500


async def test_no_operation_fails(settings: Settings) -> None:
    """Each operation with right and with wrong parameters, headers and bodies: an answer below 500 that is what the document says."""
    number = random.randrange(1 << 32)
    print(f"seed {number}")  # noqa: T201  # a failing run names it
    described = schemathesis.openapi.from_dict(document(create_app().routes))
    async with Installation(settings) as installation:
        await asyncio.to_thread(_try_all, described, installation.url, settings.admin_key.get_secret_value(), number)
        assert await installation.says_ready(installation.port)


def _try_all(described: schemathesis.BaseSchema, url: str, key: str, number: int) -> None:
    tried = set()
    for found in described.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        for mode in GenerationMode:
            strategy = operation.as_strategy(generation_mode=mode)

            @seed(number)
            @hypothesis_settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def try_it(case: schemathesis.Case[Any]) -> None:
                answer = case.call(base_url=url, headers={"Authorization": f"Bearer {key}"})
                assert answer.status_code < SERVER_ERROR, (case.as_curl_command(), answer.status_code, answer.text[:500])

            # What takes nothing cannot be given anything wrong.
            with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
                try_it()
        tried.add(operation.label)
    assert len(tried) > 25
