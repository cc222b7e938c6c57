"""identity: accounts, passwords, devices, tokens and the keys that sign them."""

from __future__ import annotations

from functools import partial

from chassis.contracts.accounts import ENROL, Enrolment
from chassis.contracts.profiles import CREATE_PROFILE, PROFILE, NewProfile, Profile, ProfileQuery
from chassis.contracts.wire import Nothing
from chassis.identity import Jwks, TokenPolicy, TokenVerifier
from chassis.identity.passwords import HashCost, Passwords
from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.identity.api import IdentityApi
from microservices.identity.api.accounts import Accounts, Ask
from microservices.identity.api.tokens import Tokens
from microservices.identity.model.sign_ins import AUDIENCE, ISSUER
from microservices.identity.store import ROWS, AccountStore, DeviceCodeStore, KeyStore, SignInStore


async def build(
    chassis: Chassis,
    *,
    tables: Tables | None = None,
    cost: HashCost | None = None,
    enrol: Ask[Enrolment, Nothing] | None = None,
    create_profile: Ask[NewProfile, Profile] | None = None,
    profile: Ask[ProfileQuery, Profile] | None = None,
) -> Service:
    clock = chassis.clock
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(*ROWS)
    rows, devices, codes = AccountStore(tables), SignInStore(tables), DeviceCodeStore(tables)
    keys = KeyStore(tables, clock)
    await keys.refresh()
    passwords = Passwords(clock, cost)
    accounts = Accounts(
        rows,
        passwords,
        enrol or chassis.peer(ENROL, timeout_s=1.0),
        create_profile or chassis.peer(CREATE_PROFILE, timeout_s=1.0),
        clock,
    )
    ask_profile = profile or chassis.peer(PROFILE, timeout_s=0.25)
    tokens = Tokens(accounts, rows, devices, codes, keys, ask_profile, clock)
    policy = TokenPolicy(issuer=ISSUER, audience=AUDIENCE)
    verifier = TokenVerifier(policy, Jwks(keys.document, clock), clock)
    api = chassis.api()
    IdentityApi(accounts, tokens, devices, codes, keys, verifier, clock).mount(api)
    return Service(
        api,
        background=[keys.follow, partial(codes.sweep_forever, clock)],
        closing=[tables.close, passwords.close],
    )
