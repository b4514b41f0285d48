"""Home is made anew, or some shops are put back in it; step by step, each of which finds what is done already."""

from __future__ import annotations

from msgspec.structs import replace

from ballast.continuity import holding, tail
from ballast.continuity.bringing import Bringing
from ballast.continuity.course import address
from ballast.continuity.emptied import emptied_since
from ballast.continuity.incident import Incident
from ballast.continuity.rebuilding import Rebuilding
from ballast.continuity.signs import Sign
from ballast.continuity.some import rewind_some
from ballast.vault.moment import show

_REWIND_S = 300
_PUTTING_BACK_S, _LOOKING_S = 5.0, 20.0


class Remaking(Bringing):
    """Of a server that is lost, or of some shops."""

    def _return_to_another(self, under_way: Incident) -> None:
        """A server that is not ours to make: a person recovers it, and protects it."""
        self._waits_for = f"a person, since the server is not ours to make: {self._by_hand}"
        seen = self._seen
        if seen is None or seen.sign is not Sign.NONE or self._recorded() != seen.identifier:
            return
        if seen.identifier == under_way.lost:
            return
        self._waits_for = "the recorder, which commits at home wait for: it records the server that was recovered"
        self._restart_recorder(seen.identifier)
        # Until somebody is back there the application's data seems to be gone, and it would be taken for lost at once.
        if tail.is_recording(self._settings) and (self._well or not self._seen_true):
            self._decide("another server is recovered and recorded")
            self._go_home()

    @property
    def _by_hand(self) -> str:
        return (
            f"put an empty one in its place and say ballast recover --now --config {self._options.config_path} (with --into DSN"
            " where it is at another address)"
        )

    def _restart_recorder(self, identifier: str) -> None:
        """One that still looks for the server that was lost; who keeps it running starts it again, with the settings of now."""
        if self._recorder_of != identifier and not tail.is_recording(self._settings):
            self._recorder_of = identifier
            tail.stop_recorder(self._settings)

    def _rebuild(self, under_way: Incident) -> None:
        self._refresh()
        if self._vault_away and self._rebuilding is None:
            self._waits_for = f"the vault: {self._vault_away}"
            return
        recorded = self._recorded()
        now_there = self._there
        if recorded != under_way.lost and now_there is not None and now_there != recorded:
            assert self._vault is not None
            # It was recorded already, and is lost as well: what it has seen comes back, too.
            self._decide("the new server is lost, too", bad=True)
            under_way = self._note(lost=recorded, timeline=self._vault.index.newest_timeline, at="", why_at="")
            self._new_rebuilding()
        if self._rebuilding is None:
            self._new_rebuilding()
        assert self._rebuilding is not None
        self._waits_for = "the new server"
        if self._home is None and now_there in (None, under_way.lost):
            self._waits_for = (
                f"an empty server at {address(self._settings.dsn)}, which is recovered as soon as it answers"
            )
        self._incident = self._rebuilding.step(under_way, self._settings, recorded, now_there)
        if not self._rebuilding.is_open:
            return
        self._waits_for = "the recorder, which commits at home wait for"
        if holding.is_held(self._folder):
            self._decide("the new server is open and protected; tenants come back")
            holding.let_go(self._folder)
        self._refresh()
        progress = self._rebuilding.progress
        is_recorded = progress is not None and self._recorded() == progress.identifier
        # The first of them must be back: else the application's data seems to be gone.
        if is_recorded and tail.is_recording(self._settings) and (self._well or not self._seen_true):
            self._go_home()
        else:
            self._ask_for([*self._visited, *self._roster][:1])
            self._merge_ahead()

    def _see_to_restorer(self, under_way: Incident) -> None:
        if self._rebuilding is None:
            if self._vault_away:
                return  # which server is recorded is not known for certain: nothing is stopped for it
            self._new_rebuilding()
        assert self._rebuilding is not None
        self._incident = self._rebuilding.step(under_way, self._settings, self._recorded(), self._there)
        if self._rebuilding.is_open and holding.is_held(self._folder):
            holding.let_go(self._folder)

    @property
    def _there(self) -> str | None:
        """Identifier of the server that stands at home now, as far as it can be told."""
        if self._home is not None:
            return self._home.identifier
        return (self._seen.identifier or None) if self._seen is not None else None

    def _new_rebuilding(self) -> None:
        if self._rebuilding is not None:
            self._rebuilding.stop()
        self._coming = None
        self._rebuilding = Rebuilding(
            self._options.config_path, self._folder, self._home, self._decide, self._choose, self._patience,
        )  # fmt: skip

    def _see_to_some(self, under_way: Incident) -> None:
        assert self._vault is not None
        if self._watched.lost:
            self._second_loss()
            return
        if self._some_are_empty:
            self._lose_some()
            return
        if not under_way.ordered:
            self._waits_for = "the word for putting them back: ballast recover --now"
            return
        for tenant, at in under_way.moments.items():
            if tenant not in under_way.rewound:
                under_way = self._put_back(under_way, tenant, at)
        if still := set(under_way.only or ()) - set(under_way.rewound):
            # Home it must not go as it is: what it accepted meanwhile would be merged into nothing.
            self._waits_for = f"a moment for {', '.join(sorted(still))}: ballast recover --now --at MOMENT"
            return
        if not self._is_hit_again(under_way):
            self._go_home()

    def _is_hit_again(self, under_way: Incident) -> bool:
        """Whether rows of somebody went again since he was put back: then that is done once more, to the same moment."""
        self._try_to_seal()
        self._refresh()
        ended = {span.tenant: span.until for span in under_way.beyond if span.until}
        again = {t for t in under_way.rewound if t in under_way.moments and self._went_again(t, ended.get(t, ""))}
        if again:
            beyond = (replace(s, until="") if s.tenant in again else s for s in under_way.beyond)
            self._note(rewound=tuple(t for t in under_way.rewound if t not in again), beyond=tuple(beyond))
            self._decide(f"rows of {', '.join(sorted(again))} went again while they were put back", bad=True)
        return bool(again)

    def _went_again(self, tenant: str, since: str) -> bool:
        assert self._vault is not None
        vault = self._vault
        return self._patience(f"what became of {tenant}", lambda: emptied_since(vault, tenant, since), _LOOKING_S)

    def _put_back(self, under_way: Incident, tenant: str, at: str) -> Incident:
        assert self._vault is not None
        vault, dsn = self._vault, self._home_dsn(_REWIND_S)
        told, before = self._patience(
            f"putting back {tenant} to {at}", lambda: rewind_some(vault, dsn, tenant, at), _PUTTING_BACK_S, keep=True
        )
        if not before:  # it had been done, and not noted: what is done at home from now on is none of what came after
            self._seal()
            before = show(self._resolve("newest").cut)
        ended = (replace(s, until=before) if s.tenant == tenant and not s.until else s for s in under_way.beyond)
        under_way = self._note(rewound=(*under_way.rewound, tenant), beyond=tuple(ended))
        self._decide(told)
        return under_way
