"""How long to wait before something that died is started again."""

from dataclasses import dataclass

FIRST_S, LONGEST_S, HEALTHY_S = 0.5, 30.0, 60.0
BRIEF_S, MANY = 10.0, 5


@dataclass
class Backoff:
    """Waits that double with each death in a row and begin anew after a minute of health."""

    _next_s: float = FIRST_S
    _brief_in_a_row: int = 0

    def after(self, ran_s: float) -> float:
        """Return the seconds to wait after a run of this many seconds."""
        if ran_s >= HEALTHY_S:
            self._next_s = FIRST_S
        self._brief_in_a_row = self._brief_in_a_row + 1 if ran_s < BRIEF_S else 0
        wait_s = self._next_s
        self._next_s = min(self._next_s * 2, LONGEST_S)
        return wait_s

    @property
    def hopeless(self) -> bool:
        """Whether it just ended within seconds for the fifth time in a row: worth a word, once."""
        return self._brief_in_a_row == MANY
