"""Energy of the processor's packages, where Linux reports it and lets the user read it; elsewhere absent."""

from __future__ import annotations

from pathlib import Path

_COUNTERS = Path("/sys/class/powercap")


class EnergyMeter:
    """Reads the packages' counters (RAPL): of all that runs on the processor, not of this process alone."""

    def __init__(self, folder: Path = _COUNTERS) -> None:
        """Find the counters.

        Args:
            folder: Where the system lists them.
        """
        found = sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else []
        # intel-rapl:0 is a package, intel-rapl:0:1 a domain inside one, which would count twice.
        self._packages = [path for path in found if path.name.count(":") == 1]

    def joules(self) -> list[float] | None:
        """Return each package's counter now, None if there is none or it may not be read."""
        try:
            values = [int((path / "energy_uj").read_text()) / 1e6 for path in self._packages]
        except (OSError, ValueError):
            return None
        return values or None

    def since(self, before: list[float]) -> float:
        """Return the joules since an earlier reading; a counter that began anew in between is continued."""
        total = 0.0
        for path, old, new in zip(self._packages, before, self.joules() or before, strict=True):
            wrapped = int((path / "max_energy_range_uj").read_text()) / 1e6 if new < old else 0.0
            total += new - old + wrapped
        return total
