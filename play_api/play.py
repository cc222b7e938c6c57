"""One Play, pure: what is known so far, what to ask next, what may not be, and the answer.

Nothing here waits, reads a clock or talks to anybody; `playback` does.
"""

from __future__ import annotations

import hashlib
from typing import Any

from chassis.contracts.accounts import Entitlement, EntitlementQuery
from chassis.contracts.common import Maturity
from chassis.contracts.play import (
    Degraded,
    DrmPart,
    LimitedBy,
    ManifestPart,
    PlayAnswer,
    PlayRequest,
    QualityPart,
    ResumePart,
    SessionPart,
)
from chassis.contracts.profiles import AllocateQuery, Allocation, Profile, ProfileQuery
from chassis.contracts.protection import protected_height
from chassis.contracts.streams import (
    AcquireRequest,
    Lease,
    LicenceGrant,
    LicenceRequest,
    Manifest,
    ManifestRequest,
    Ranking,
    RankRequest,
)
from chassis.contracts.titles import Playable, PlayableQuery, RightsDecision, RightsQuery
from chassis.contracts.viewing import Bookmark, BookmarkQuery, UpNext, UpNextQuery
from chassis.errors import BadRequest, Forbidden, RequestFailure, Unprocessable
from chassis.identity import Passport

PLAYABLE_STATUSES = ("active", "grace")

_PLACES = {
    "membership": "entitlement",
    "profiles": "profile",
    "catalog": "title",
    "experiments": "allocation",
    "bookmarks": "bookmark",
    "rights": "decision",
    "sessions": "lease",
    "manifest": "manifest",
    "licence": "licence",
    "steering": "ranking",
    "recommendations": "up_next",
}


class MembershipInactive(RequestFailure):
    """The account's membership does not allow playing now."""

    status = 402
    code = "membership_inactive"


class WindowEnded(RequestFailure):
    """The title's licence window is over."""

    status = 410
    code = "window_ended"


class Play:
    """The state of one request; each answer is put where the next question finds it.

    `may_hold_lease`: sessions was asked and nothing proves that it granted none.
    """

    def __init__(
        self,
        request: PlayRequest,
        passport: Passport,
        *,
        play_id: str,
        idempotency_key: str,
        attempt: str,
        trace_id: str,
        pin_checked: bool,
    ) -> None:
        self.request = request
        self.passport = passport
        self.play_id = play_id
        self.idempotency_key = idempotency_key
        self.attempt = attempt
        self.trace_id = trace_id
        self.pin_checked = pin_checked
        self.degraded: list[Degraded] = []
        self.vouched = True
        """Somebody said that the profile is this account's: profiles, or the passport."""
        self.may_hold_lease = False
        self.entitlement: Entitlement
        self.profile: Profile
        self.title: Playable
        self.allocation = Allocation()
        self.bookmark = Bookmark(found=False)
        self.decision: RightsDecision
        self.lease: Lease | None = None
        self.manifest: Manifest
        self.licence: LicenceGrant | None = None
        self.ranking: Ranking | None = None
        self.up_next = UpNext()
        self._quality: QualityPart | None = None

    def question(self, step: str) -> Any:
        """The request of `step`, or None when this Play does not need it.

        Raises the `RequestFailure` that ends the Play when what is known forbids going on.
        """
        return getattr(self, f"_ask_{step}")()

    def take(self, step: str, answer: Any) -> None:
        """Puts the answer of `step` where later questions and the answer find it."""
        setattr(self, _PLACES[step], answer)

    def _ask_membership(self) -> EntitlementQuery:
        return EntitlementQuery(account_id=self.passport.account_id)

    def _ask_profiles(self) -> ProfileQuery:
        return ProfileQuery(account_id=self.passport.account_id, profile_id=self.request.profile_id)

    def _ask_catalog(self) -> PlayableQuery:
        return PlayableQuery(title_id=self.request.title_id, episode_id=self.request.episode_id)

    def _ask_experiments(self) -> AllocateQuery:
        return AllocateQuery(account_id=self.passport.account_id)

    def _ask_bookmarks(self) -> BookmarkQuery | None:
        if self.request.title_id is None:
            return None
        return BookmarkQuery(profile_id=self.request.profile_id, title_id=self.request.title_id)

    def _ask_rights(self) -> RightsQuery:
        self.check_membership()
        self.check_maturity()
        self.check_device()
        return RightsQuery(
            title_id=self.title.title_id,
            country=self.entitlement.country,
            plan=self.entitlement.plan,
            device_type=self.request.device.type,
        )

    def _ask_sessions(self) -> AcquireRequest:
        self.check_rights()
        return AcquireRequest(
            account_id=self.passport.account_id,
            profile_id=self.request.profile_id,
            device_id=self.request.device.id,
            title_id=self.title.title_id,
            play_id=self.play_id,
            max_streams=self.entitlement.limits.streams,
            idempotency_key=self.idempotency_key,
            evict=self.request.evict,
            attempt=self.attempt,
        )

    def _ask_manifest(self) -> ManifestRequest:
        quality = self.quality()
        return ManifestRequest(
            play_id=self.play_id,
            session_id=self.held.session_id,
            account_id=self.passport.account_id,
            title_id=self._content_id(),
            duration_ms=self.title.duration_ms,
            max_height=quality.max_height,
            max_kbps=quality.max_kbps,
            protected=self.title.protected,
            hdr=quality.hdr,
            codecs=quality.codecs,
            audio=self.title.audio,
            captions=self.title.captions,
            drm_system=self.request.device.drm.system,
            steering=self.request.supports.steering,
            valid_until=self.decision.window_ends,
            country=self.entitlement.country,
            network=self.request.network.type,
        )

    def _ask_licence(self) -> LicenceRequest | None:
        if not self.title.protected:
            return None
        return LicenceRequest(
            account_id=self.passport.account_id,
            play_id=self.play_id,
            session_id=self.held.session_id,
            title_id=self._content_id(),
            device=self.request.device,
            drm=self.request.device.drm,
            max_height=self.quality().max_height,
            valid_until=self.decision.window_ends or self.decision.valid_until,
        )

    def _ask_steering(self) -> RankRequest | None:
        if not self.request.supports.steering:
            return None
        return RankRequest(
            country=self.entitlement.country,
            session_id=self.held.session_id,
            network=self.request.network.type,
            downlink_kbps=self.request.network.downlink_kbps,
        )

    def _ask_recommendations(self) -> UpNextQuery:
        return UpNextQuery(
            profile_id=self.request.profile_id if self.vouched else "",
            title_id=self.title.title_id,
            country=self.entitlement.country,
            maturity=self.profile.maturity,
        )

    def _content_id(self) -> str:
        """What is encoded and keyed as one: an episode, else the title."""
        return self.title.episode_id or self.title.title_id

    def mark(
        self, part: str, reason: str, fallback: str, retry_after_s: float | None = None
    ) -> None:
        self.degraded.append(
            Degraded(part=part, reason=reason, fallback=fallback, retry_after_s=retry_after_s)
        )

    @property
    def held(self) -> Lease:
        if self.lease is None:
            raise LookupError("the plan asked for a lease before sessions answered")
        return self.lease

    def check_membership(self) -> None:
        if self.entitlement.status not in PLAYABLE_STATUSES:
            raise MembershipInactive(
                f"the membership is {self.entitlement.status}; renew it to go on watching"
            )

    def check_maturity(self) -> None:
        if self.title.maturity <= self.profile.maturity or self.pin_checked:
            return
        raise Forbidden(
            "this title needs a more grown-up profile, or its PIN",
            code="maturity",
            members={"pin_required": self.profile.has_pin},
        )

    def check_device(self) -> None:
        device, supports = self.request.device, self.request.supports
        if not supports.hls and not supports.dash:
            raise Unprocessable(
                "the device plays neither HLS nor DASH, and there is nothing else",
                code="device_unsupported",
            )
        if not set(device.codecs) & set(self.title.codecs):
            offered = ", ".join(self.title.codecs)
            raise Unprocessable(
                f"the device decodes none of this title's codecs ({offered})",
                code="device_unsupported",
            )
        if self.title.protected and device.drm.system == "none":
            raise Unprocessable(
                "this title is protected and the device has no DRM system",
                code="device_unsupported",
            )

    def check_rights(self) -> None:
        denial = self.decision.denial
        if self.decision.allowed:
            return
        if denial == "window_ended":
            raise WindowEnded("the licence for this title has ended here")
        raise Forbidden(f"this title may not be played: {denial}", code=denial or "not_entitled")

    def quality(self) -> QualityPart:
        """What may be played, once the rights are known; three parts of a Play ask for it."""
        if self._quality is None:
            self._quality = self._capped()
        return self._quality

    def _capped(self) -> QualityPart:
        """The smallest cap of all wins; `limited_by` names it when it lowers the title's own."""
        device, limits = self.request.device, self.entitlement.limits
        heights: list[tuple[int, LimitedBy]] = [
            (self.title.max_height, "title"),
            (limits.max_height, "plan"),
            (device.max_height, "device"),
            (self.decision.max_height, "rights"),
            (self._protected_height(), "drm_level"),
        ]
        height, limited_by = min(heights, key=lambda pair: pair[0])
        hdr_allowed = limits.hdr and self.decision.hdr
        return QualityPart(
            max_height=height,
            max_kbps=limits.max_kbps,
            hdr=tuple(name for name in self.title.hdr if hdr_allowed and name in device.hdr),
            codecs=tuple(name for name in self.title.codecs if name in device.codecs),
            limited_by=None if limited_by == "title" else limited_by,
        )

    def _protected_height(self) -> int:
        if not self.title.protected:
            return self.title.max_height
        device = self.request.device
        return protected_height(device.drm, device.hdcp)

    def resume(self) -> ResumePart:
        if self.bookmark.found and self.vouched:
            return ResumePart(position_ms=self.bookmark.position_ms, source="server")
        if self.request.start_at is not None:
            position_ms = min(self.request.start_at, self.title.duration_ms)
            return ResumePart(position_ms=position_ms, source="client")
        return ResumePart(position_ms=0, source="none")

    def answer(self) -> PlayAnswer:
        lease, manifest = self.held, self.manifest
        supports = self.request.supports
        steering = self.ranking.steering_url if self.ranking is not None else None
        return PlayAnswer(
            play_id=self.play_id,
            title_id=self.title.title_id,
            name=self.title.name,
            duration_ms=self.title.duration_ms,
            session=SessionPart(
                id=lease.session_id,
                lease_ttl_s=lease.lease_ttl_s,
                heartbeat_s=lease.heartbeat_s,
                heartbeat_url=f"/v1/play/sessions/{lease.session_id}/heartbeat",
                policy="provisional" if lease.provisional else "leased",
            ),
            manifest=ManifestPart(
                hls=manifest.hls if supports.hls else None,
                dash=manifest.dash if supports.dash else None,
                steering_url=steering,
                signed_until=manifest.signed_until,
            ),
            quality=self.quality(),
            drm=self._drm(),
            audio=_preferred(self.title.audio, self.request.prefs.audio),
            captions=_preferred(self.title.captions, self.request.prefs.captions),
            resume=self.resume(),
            markers=self.title.markers,
            up_next=self.up_next.suggestion,
            experiments=self.allocation.cells,
            telemetry={"trace_id": self.trace_id, "events_url": "/v1/events"},
            degraded=tuple(self.degraded),
        )

    def _drm(self) -> DrmPart:
        if self.licence is None:
            return DrmPart(system="none", licence_url=None, licence_token=None, key_ids=())
        return DrmPart(
            system=self.licence.system,
            licence_url=self.licence.licence_url,
            licence_token=self.licence.licence_token,
            key_ids=self.licence.key_ids,
        )


def play_id_of(account_id: str, idempotency_key: str) -> str:
    """The same key of the same account names the same play."""
    return hashlib.blake2b(
        f"{account_id}\0{idempotency_key}".encode(), digest_size=12, person=b"play"
    ).hexdigest()


def check_request(request: PlayRequest) -> None:
    """`BadRequest` when a request decodes but cannot be meant."""
    if (request.title_id is None) == (request.episode_id is None):
        raise BadRequest("send exactly one of title_id and episode_id")
    named = {"device.id": request.device.id, "profile_id": request.profile_id}
    for name, value in named.items():
        if not 0 < len(value) <= 128:
            raise BadRequest(f"{name} must have 1 to 128 characters")
    if request.device.max_height < 144:
        raise BadRequest("device.max_height must be at least 144")
    if request.start_at is not None and request.start_at < 0:
        raise BadRequest("start_at must not be negative")


def unknown_profile(play: Play) -> Profile:
    """What to assume of a profile that cannot be looked up: the passport's word, else a child."""
    passport = play.passport
    known = passport.profile_id == play.request.profile_id and passport.maturity is not None
    return Profile(
        profile_id=play.request.profile_id,
        account_id=passport.account_id,
        name="",
        maturity=Maturity(passport.maturity or 0) if known else Maturity.LITTLE_KIDS,
        has_pin=True,
    )


def _preferred(tracks: Any, languages: tuple[str, ...]) -> Any:
    """The tracks, those in a preferred language first, otherwise in their own order."""
    rank = {language: at for at, language in enumerate(languages)}
    return tuple(sorted(tracks, key=lambda track: rank.get(track.language, len(rank))))
