"""POST /v1/config and `ottla apply`: what is applied is in the log, and what is wrong is said."""

import asyncio
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from infra.config_tables import ConfigTables
from infra.settings import Settings
from schemas.events.config import Account, Agent, Tenant
from tests.installation import Installation

pytestmark = pytest.mark.servers

NOT_SECRET = "do-not-show-me"
DOCUMENT = {
    "tenants": [{"id": "shop", "name": "A Shop"}],
    "accounts": [{"id": "main", "phone_number_id": "111", "tenant": "shop", "token": "t", "app_secret": "s", "agent": "clerk"}],
    "agents": [{"id": "clerk", "tenant": "shop", "kind": "offline", "fallback": "Later."}],
}


@pytest.fixture
def only_ingress(settings: Settings) -> Installation:
    """Give an installation that runs the ingress alone."""
    return Installation(settings, roles=("ingress",))


async def _post(installation: Installation, body: Any, key: str | None = None) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {"Authorization": f"Bearer {key or installation.settings.admin_key.get_secret_value()}"}
    async with installation.http.post(f"{installation.url}/v1/config", data=io.BytesIO(raw), headers=headers) as response:
        text = await response.read()
        assert NOT_SECRET.encode() not in text
        return response.status, orjson.loads(text)


async def _applied(settings: Settings) -> ConfigTables:
    tables = ConfigTables(settings)
    await tables.start()
    await tables.stop()
    return tables


async def test_what_is_applied_is_in_the_log(only_ingress: Installation) -> None:
    """A 200 means that all of it is stored; the next call may refer to it; the same again changes nothing."""
    async with only_ingress as installation:
        for _ in range(2):
            assert await _post(installation, DOCUMENT) == (200, {"applied": {"tenants": 1, "accounts": 1, "agents": 1}})
        more = {"accounts": [{"id": "second", "phone_number_id": "222", "tenant": "shop", "agent": "clerk"}]}
        assert (await _post(installation, more))[0] == 200
        tables = await _applied(installation.settings)
    assert tables.tenants == {"shop": Tenant(id="shop", name="A Shop")}
    assert tables.agents == {"clerk": Agent(id="clerk", tenant="shop", kind="offline", fallback="Later.")}
    assert tables.account_by_phone_number_id("111") == Account(
        id="main", phone_number_id="111", tenant="shop", token="t", app_secret="s", agent="clerk"
    )
    assert tables.account_by_phone_number_id("222") == Account(id="second", phone_number_id="222", tenant="shop", agent="clerk")


async def test_what_is_wrong_is_said_and_nothing_is_applied(only_ingress: Installation) -> None:
    """One mistake refuses the whole document, with every mistake and its path; a body that is no JSON is refused as well."""
    async with only_ingress as installation:
        wrong = DOCUMENT | {"accounts": [{"id": "main", "phone_number_id": "111", "tenant": "shpo", "token": NOT_SECRET}]}
        status, answer = await _post(installation, wrong)
        assert status == 422
        assert answer["errors"] == [
            {"path": ["accounts", 0, "tenant"], "message": "There is no tenant `shpo` (did you mean `shop`?): add it under `tenants:`."}
        ]
        for body in (b"", b"{", b"[1", b"\xff", b"[" * 100_000, b'"\\ud800"', b"null", b"[]"):
            assert (await _post(installation, body))[0] == 422, body[:10]
        assert (await _post(installation, b" " * (5 << 20)))[0] == 422
        tables = await _applied(installation.settings)
    assert (tables.tenants, tables.accounts, tables.agents) == ({}, {}, {})


async def test_only_the_admin_key(only_ingress: Installation) -> None:
    """Without the admin key nothing is read and nothing applied."""
    async with only_ingress as installation:
        assert (await _post(installation, DOCUMENT, key="another"))[0] == 401
        async with installation.http.post(f"{installation.url}/v1/config", data=orjson.dumps(DOCUMENT)) as response:
            assert response.status == 401


async def test_apply_from_the_command_line(only_ingress: Installation, tmp_path: Path) -> None:
    """`ottla apply` tells what it applied; what only the ingress can know is told with the line of the file."""
    file = tmp_path / "shop.yaml"
    file.write_text("tenants:\n- id: shop\naccounts:\n- id: main\n  phone_number_id: 111\n  tenant: shop\n  token: ${WA_TOKEN}\n")
    async with only_ingress as installation:
        assert await _apply(installation, file, WA_TOKEN="t") == (0, "Applied 1 tenant, 1 account.\n", "")
        file.write_text("accounts:\n- id: other\n  phone_number_id: 111\n  agent: nobody\n")
        code, _, said = await _apply(installation, file)
        assert code == 2
        assert said.splitlines() == [
            f"{file} line 3: The number 111 belongs to account `main` already: use that id.",
            f"{file} line 4: There is no agent `nobody`: add it under `agents:`.",
        ]
        code, _, said = await _apply(installation, file, OTTLA_ADMIN_KEY="another")
        assert (code, said) == (
            1,
            f"The ingress at {installation.url} has another key: set OTTLA_ADMIN_KEY, or OTTLA_HOME to the one it runs with.\n",
        )
        tables = await _applied(installation.settings)
    assert tables.accounts == {"main": Account(id="main", phone_number_id="111", tenant="shop", token="t")}


async def _apply(installation: Installation, file: Path, **environment: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "infra", "apply", str(file)]
    variables = installation.running["ingress"].environment | environment
    done = await asyncio.to_thread(
        subprocess.run, command, env=variables, cwd=file.parent, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr
