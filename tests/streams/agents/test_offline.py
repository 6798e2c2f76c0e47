"""The offline agent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.events.config import Agent as AgentConfig
from streams.agents.base import Agent, AgentBuildError, Turn
from streams.agents.offline import ANSWER_LENGTH_MAX
from streams.agents.registry import Agents


@pytest.fixture
async def agent(agents: Agents) -> Agent:
    return await agents.get(AgentConfig(id="default", kind="offline"))


async def _said(agent: Agent, text: str) -> str:
    return (await agent.answer(Turn(conversation="c", text=text))).text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("I forgot my password", "Recover Password"),
        ("what is the status of my refund?", "Refund Status"),
        ("the website is so slow", "Website Too Slow"),
        ("my promo code does not work!!", "Promo Code Invalid"),
        ("I never bought this item but I was billed", "Mistimed Billing Never Bought"),
        ("hi, is my subscription active?", "Status Active"),
        ("How do I reset two-factor authentication?", "Reset Two-Factor Auth"),
        ("add my phone number please", "Manage Change Phone"),
        ("IT'S THE WRONG SIZE", "Return Due to Size"),
        ("do jeans shrink after washing", "Jeans FAQ"),
        ("what are the benefits of gold membership", "Membership FAQ"),
    ],
)
async def test_a_question_about_the_shop_is_answered_from_its_handbook(agent: Agent, text: str, title: str) -> None:
    """A request that the handbook covers is answered with the passage of that title."""
    reply = await agent.answer(Turn(conversation="c", text=text))
    assert reply.known
    assert reply.text.startswith(f"{title}: ")


@pytest.mark.parametrize(
    "text", ["what is the weather in Paris", "who won the world cup", "¿Dónde está la biblioteca?", "asdfghjkl", "", "🙏", "12345"]
)
async def test_it_says_when_it_does_not_know(agent: Agent, text: str) -> None:
    """What the handbook does not speak of gets one friendly sentence, marked as not known."""
    reply = await agent.answer(Turn(conversation="c", text=text))
    assert not reply.known
    assert reply.text == "I'm sorry, I don't know that one, but I can help with Product Defect, Order Issue and Account Access."


@pytest.mark.parametrize(
    "text", ["hi", "Hello there!", "HEY", "¡Hola!", "buenos días", "Guten Tag", "你好", "مرحبا", "नमस्ते", "good morning 👋"]
)
async def test_a_greeting_is_greeted(agent: Agent, text: str) -> None:
    """A message that only greets is greeted back."""
    assert (await _said(agent, text)).startswith("Hello!")


@pytest.mark.parametrize("text", ["thanks", "Thank you so much!!", "gracias", "merci 🙏", "谢谢", "hi and thanks"])
async def test_thanks_are_accepted(agent: Agent, text: str) -> None:
    """A message that only thanks gets no lecture."""
    assert await _said(agent, text) == "You're welcome!"


async def test_a_greeting_with_a_question_is_a_question(agent: Agent) -> None:
    """Politeness around a question does not hide the question."""
    assert await _said(agent, "hello, I forgot my password, thanks") == await _said(agent, "I forgot my password")


async def test_answers_are_short_and_always_the_same(agents: Agents, agent: Agent, utterances: list[str]) -> None:
    """Every answer fits a message, and a second agent over the same knowledge says the same."""
    other = await agents.get(AgentConfig(id="other", kind="offline"))
    for text in utterances:
        said = await _said(agent, text)
        assert 0 < len(said) <= ANSWER_LENGTH_MAX
        assert said == await _said(other, text)


async def test_a_file_of_questions_and_answers(agents: Agents, tmp_path: Path) -> None:
    """Knowledge of one's own needs no schema: questions with answers work, in any language."""
    path = tmp_path / "faq.json"
    faq = [
        {"question": "¿Cuál es el horario de apertura?", "answer": "De 9 a 17."},
        {"question": "Do you ship abroad?", "answer": "No"},
        {"question": "什么时候营业", "answer": "早上九点到下午五点。"},
        {"question": "Can I pay with a credit card", "answer": "Yes, with any of them."},
    ]
    path.write_text(json.dumps(faq), encoding="utf-8")
    agent = await agents.get(AgentConfig(id="faq", kind="offline", knowledge=str(path)))
    assert await _said(agent, "horario de apertura") == "¿Cuál es el horario de apertura? De 9 a 17."
    assert await _said(agent, "shipping abroad?") == "Do you ship abroad? No"
    assert await _said(agent, "你们什么时候营业") == "什么时候营业: 早上九点到下午五点。"
    assert await _said(agent, "credit cards?") == "Can I pay with a credit card: Yes, with any of them."


async def test_a_changed_file_is_read_again(agents: Agents, tmp_path: Path) -> None:
    """An agent that is built anew sees its knowledge as it is now."""
    path = tmp_path / "faq.json"
    path.write_text('{"Opening hours": "9 to 5"}')
    first = await agents.get(AgentConfig(id="a", kind="offline", knowledge=str(path)))
    path.write_text('{"Opening hours": "10 to 6, longer"}')
    path.touch()
    second = await agents.get(AgentConfig(id="b", kind="offline", knowledge=str(path)))
    assert await _said(first, "opening hours") == "Opening hours: 9 to 5"
    assert await _said(second, "opening hours") == "Opening hours: 10 to 6, longer"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "Agent faq cannot read its knowledge {path}: No such file or directory."),
        (b"", "Agent faq needs JSON as its knowledge, and {path} is none: "),
        (b"question,answer\n", "Agent faq needs JSON as its knowledge, and {path} is none: "),
        (b"\xff\xfe{}", "Agent faq needs JSON as its knowledge, and {path} is none: "),
        (b"{}", "Agent faq cannot use its knowledge {path}: there is no text in it."),
        (b'{"a": [1, null, {"b": true}]}', "Agent faq cannot use its knowledge {path}: there is no text in it."),
        (b'{"a": "?!"}', "Agent faq cannot use its knowledge {path}: there are no words in it."),
        (b"[" * 200 + b"]" * 200, "Agent faq cannot use its knowledge {path}: it is nested deeper than 50 levels."),
    ],
)
async def test_knowledge_that_cannot_be_used(agents: Agents, tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """Missing or broken knowledge is one sentence when the agent is built, not a failure with each message."""
    path = tmp_path / "faq.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AgentBuildError) as caught:
        await agents.get(AgentConfig(id="faq", kind="offline", knowledge=str(path)))
    assert str(caught.value).startswith(sentence.format(path=path))


async def test_a_folder_is_no_knowledge(agents: Agents, tmp_path: Path) -> None:
    """A folder named as knowledge is one sentence."""
    with pytest.raises(AgentBuildError, match="cannot read its knowledge"):
        await agents.get(AgentConfig(id="faq", kind="offline", knowledge=str(tmp_path)))


def test_nothing_is_printed() -> None:
    """Neither building an index nor answering prints progress, logs or warnings."""
    script = (
        "import asyncio, logging; logging.basicConfig(level=logging.DEBUG)\n"
        "from infra.settings import Settings; from schemas.events.config import Agent\n"
        "from streams.agents.base import Context, Turn; from streams.agents.offline import build\n"
        "agent = build(Agent(id='a', kind='offline'), Context(Settings(_env_file=None)))\n"
        "assert asyncio.run(agent.answer(Turn(conversation='c', text='refund status'))).known\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    lines = [line for line in done.stderr.splitlines() if "Using selector" not in line]
    assert (done.returncode, done.stdout, lines) == (0, "", [])
