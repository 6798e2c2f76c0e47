"""How `conversations.jsonl.gz` was chosen: `python -m infra.demo.sample DIALOGUES MULTILINGUAL`. Seeded, so it gives the same file again.

DIALOGUES has one conversation a line, {"id", "source", "lang", "turns": [{"from", "text", "t"?, "n"?}]}; MULTILINGUAL one sentence a
line, {"id", "source", "lang", "text"}. Only what users wrote is kept, grouped into bursts: what somebody wrote again before an answer came.
"""

import gzip
import json
import random
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from infra.demo.conversations import CONVERSATIONS, Conversation, dump_conversations

_SEED = 20_261_121
_WANTED = {
    "irc-ubuntu": 60,
    "multidogo": 76,
    "taskmaster4": 18,
    "crosswoz": 18,
    "aci-bench": 4,
    "abcd-sample": 1,
}
_LANGUAGES = 19
_HOSTILE = 4
_MESSAGES = range(2, 15)
_TEXT_LENGTH_MAX = 300
_SENTENCES = 4
_UNFIT = re.compile(
    r"fuck|shit|\bass\b|asshole|bitch|bastard|\bdamn|\bhell\b|crap|piss|dick|\bcock|cunt|slut|whore|\bsex|porn|nazi|\bkill|suicid|rape|"
    r"shotgun|tortur|death|balls|\bgod\b|jesus|pirate|\bdead|\bdie\b|drunk|drug|weed|\bbutt|suck|blood|bomb|terror|hitler|murder|naked|erotic|stinks?\b|"
    r"retard|idiot|stupid|moron|\bgay\b|\bfag|nigg|wtf|stfu|ssn|social security|\d{7,}|@\w+\.\w+|https?://",
    re.IGNORECASE,
)
_HOSTILE_SIGNS = ("<script>", "{", "--")
_HOSTILE_FEATURES = {"emoji", "rtl"}
_HOSTILE_LENGTH_MAX = 200

Json = dict[str, Any]


def main(dialogues: Path, multilingual: Path) -> None:
    """Choose 200 conversations and write them."""
    chance = random.Random(_SEED)  # noqa: S311  # repeatable on purpose
    chosen = [conversation for source in _WANTED for conversation in _of_source(dialogues, source, chance)]
    sentences = list(_lines(multilingual))
    chosen += _of_languages(sentences, chance) + _hostile(sentences)
    chance.shuffle(chosen)
    CONVERSATIONS.write_bytes(dump_conversations(chosen))
    print(f"{len(chosen)} conversations, {sum(c.size for c in chosen)} messages, {CONVERSATIONS.stat().st_size} bytes")  # noqa: T201


def _of_source(path: Path, source: str, chance: random.Random) -> list[Conversation]:
    """Return so many fit conversations of a source, evenly over its parts, those with bursts first."""
    fit = [conversation for line in _lines(path) if line["source"].startswith(source) and (conversation := _conversation(line))]
    parts = sorted({conversation.source for conversation in fit})
    chance.shuffle(fit)
    fit.sort(key=lambda conversation: len(conversation.bursts) == conversation.size)
    by_part = {part: iter([conversation for conversation in fit if conversation.source == part]) for part in parts}
    chosen: list[Conversation] = []
    while len(chosen) < _WANTED[source]:
        found = [conversation for part in parts if (conversation := next(by_part[part], None))]
        if not found:
            raise SystemExit(f"There are only {len(chosen)} fit conversations of {source}.")
        chosen += found
    return chosen[: _WANTED[source]]


def _conversation(line: Json) -> Conversation | None:
    """Return what the user wrote in one line of the corpus, or None if it is too short, too long or unfit."""
    bursts = [[" ".join(turn["text"].split()) for turn in burst] for burst in _user_bursts(line["turns"])]
    if line["source"].startswith("aci-bench"):
        bursts = bursts[:8]  # consultations are long: their beginning is enough
    texts = [text for burst in bursts for text in burst]
    unfit = any(not text or len(text) > _TEXT_LENGTH_MAX or _UNFIT.search(text) for text in texts)
    if unfit or len(texts) not in _MESSAGES or (line["source"].startswith("irc") and not _speaks_much(texts)):
        return None
    return Conversation(id=line["id"], source=line["source"], lang=line["lang"], bursts=bursts)


def _user_bursts(turns: list[Json]) -> Iterator[list[Json]]:
    if all("n" in turn for turn in turns):  # the customer's side alone: a gap in the numbering is an answer
        for _, numbered in groupby(enumerate(turns), key=lambda pair: int(pair[1]["n"]) - pair[0]):
            yield [turn for _, turn in numbered]
        return
    for who, group in groupby(turns, key=lambda turn: str(turn["from"])):
        if who == "user":
            yield list(group)


def _speaks_much(texts: list[str]) -> bool:
    return sum(map(len, texts)) >= 30 * len(texts)  # characters a message: leaves out one-word chatter


def _of_languages(sentences: list[Json], chance: random.Random) -> list[Conversation]:
    """Return conversations of sentences in one language each, one for every script there is and then any."""
    by_lang: dict[str, list[Json]] = {}
    for sentence in sentences:
        if sentence["source"] in {"tatoeba", "injongo"} and not _UNFIT.search(sentence["text"]):
            by_lang.setdefault(sentence["lang"], []).append(sentence)
    enough = sorted(lang for lang, found in by_lang.items() if len(found) >= _SENTENCES)
    chance.shuffle(enough)
    scripts: dict[str, str] = {}
    for lang in enough:
        scripts.setdefault(by_lang[lang][0]["script"], lang)
    langs = [*scripts.values(), *(lang for lang in enough if lang not in scripts.values())]
    return [_sentences(by_lang[lang][:_SENTENCES]) for lang in langs[:_LANGUAGES]]


def _hostile(sentences: list[Json]) -> list[Conversation]:
    """Return conversations of strings that break careless programs, each with strings of several kinds."""
    strings = [s for s in sentences if s["source"] == "blns" and len(s["text"]) <= _HOSTILE_LENGTH_MAX and not _UNFIT.search(s["text"])]
    groups = [[s for s in strings if sign in s["text"]] for sign in _HOSTILE_SIGNS]
    groups.append([s for s in strings if _HOSTILE_FEATURES & {*s["features"]}])
    return [_sentences([group[number * 7 % len(group)] for group in groups]) for number in range(_HOSTILE)]


def _sentences(sentences: list[Json]) -> Conversation:
    texts = [sentence["text"] for sentence in sentences]
    first = sentences[0]
    return Conversation(id=first["id"], source=first["source"], lang=first["lang"], bursts=[texts[:1], texts[1:3], texts[3:]])


def _lines(path: Path) -> Iterator[Json]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        yield from map(json.loads, stream)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
