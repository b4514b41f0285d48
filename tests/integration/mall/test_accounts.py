"""Signing in, and everything by which somebody else would."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import argon2
import psycopg
import pyotp
import pytest
from psycopg.conninfo import make_conninfo

from ballast.mall import accounts, links, passwords, sessions, signin
from ballast.mall.db import Database
from ballast.mall.ids import token_hash
from ballast.mall.rules.refused import Refused
from tests.fix_mall import MallDatabase
from tests.fix_people import PASSWORD, NewVisitor, Visitor, first_operator_link, token_in, with_database

NOW = datetime.now(UTC)


def _make(mall: MallDatabase, login: str, password_hash: str | None = None) -> accounts.Account:
    async def make(database: Database) -> accounts.Account:
        hashed = password_hash or await passwords.hashed(PASSWORD)
        async with database.identity() as connection:
            account_id = await accounts.add(
                connection, login=login, name=login, password_hash=hashed, language="en", now=NOW
            )
            account = await accounts.by_id(connection, account_id)
        assert account is not None
        return account

    return with_database(mall, make)


def test_the_first_operators_link_works_once_and_only_while_there_is_none(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    assert "Overview" in operator.get("/platform").text
    with pytest.raises(Refused, match="operator already"):
        with_database(mall_database, first_operator_link)


def test_a_link_that_was_made_before_the_first_operator_came_makes_no_second(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    mall_database.run(
        "INSERT INTO mall.account_link (token_hash, purpose, expires_at) VALUES (%s, 'first_operator', now() + interval '1 day')",
        token_hash("x" * 43),
    )
    late = visitor().make_account("x" * 43, "late")
    assert late.status_code == 422
    assert "There is an operator already" in late.text
    assert mall_database.run("SELECT count(*) FROM mall.account WHERE login = 'late'") == [(0,)]


def test_an_unknown_login_a_wrong_password_and_a_disabled_account_get_one_answer(
    mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    _make(mall_database, "kim")
    _make(mall_database, "gone")
    mall_database.run("UPDATE mall.account SET disabled_at = now() WHERE login = 'gone'")
    answers = [
        visitor().sign_in("kim", "wrong password"),
        visitor().sign_in("nobody", PASSWORD),
        visitor().sign_in("gone", PASSWORD),
    ]
    assert {one.status_code for one in answers} == {422}
    assert all("Login, password or code is wrong" in one.text for one in answers)


def test_an_unknown_login_costs_the_work_of_a_known_one(mall_database: MallDatabase) -> None:
    account = _make(mall_database, "costs")
    checked: list[str] = []

    async def matches(database: Database) -> None:
        for one in (account, None):
            assert not await accounts.matches(one, "wrong password")
            checked.append(one.password_hash if one else passwords._NOBODY)

    with_database(mall_database, matches)
    known, nobodys = (argon2.extract_parameters(one) for one in checked)
    assert known == nobodys


def test_the_sixth_attempt_is_refused_whatever_is_typed_and_others_still_get_in(
    mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    _make(mall_database, "target")
    _make(mall_database, "neighbour")
    for _ in range(signin.MOST_FOR_ONE_LOGIN):
        assert visitor().sign_in("target", "wrong password").status_code == 422
    blocked = visitor().sign_in("Target ", PASSWORD)
    assert blocked.status_code == 429
    assert int(blocked.headers["retry-after"]) > 0
    assert visitor().sign_in("neighbour").status_code == 303

    async def from_elsewhere(database: Database) -> str:
        attempt = signin.Attempt("target", PASSWORD, "", "203.0.113.9", "test")
        return (await signin.sign_in(database, accounts.safe(mall_database.secret), attempt, datetime.now(UTC))).token

    assert with_database(mall_database, from_elsewhere)

    async def when_it_is_over(database: Database) -> str:
        attempt = signin.Attempt("target", PASSWORD, "", "testclient", "test")
        later = datetime.now(UTC) + signin.WINDOW + timedelta(seconds=1)
        return (await signin.sign_in(database, accounts.safe(mall_database.secret), attempt, later)).token

    assert with_database(mall_database, when_it_is_over)


def test_one_address_does_not_try_a_password_on_everybody(mall_database: MallDatabase) -> None:
    async def spray(database: Database) -> list[str]:
        said = []
        for number in range(signin.MOST_FROM_ONE_ADDRESS + 2):
            async with database.identity() as connection:
                wait_s = await signin._count(connection, f"somebody{number}", "198.51.100.7", NOW)
            said.append("often" if wait_s else "tried")
        return said

    assert with_database(mall_database, spray)[-3:] == ["tried", "often", "often"]


def test_a_code_is_taken_once_even_by_two_at_once_and_never_an_older_one(mall_database: MallDatabase) -> None:
    account = _make(mall_database, "totp")
    secret = accounts.new_totp_secret()
    totp = pyotp.TOTP(secret)

    async def story(database: Database) -> list[bool]:
        async with database.identity() as connection:
            await accounts.turn_totp_on(
                connection, accounts.safe(mall_database.secret), account.account_id, secret, totp.at(NOW), NOW
            )
            held = await accounts.by_id(connection, account.account_id)
        assert held is not None
        then = NOW + timedelta(seconds=60)
        answers = []
        # The code by which it was turned on; the next; that again; the one before it; a wrong one.
        for code in (totp.at(NOW), totp.at(then), totp.at(then), totp.at(then - timedelta(seconds=30)), "000000x"):
            async with database.identity() as connection:
                answers.append(
                    await accounts.use_totp(connection, accounts.safe(mall_database.secret), held, code, then)
                )
        later = then + timedelta(seconds=60)

        async def at_once() -> bool:
            async with database.identity() as connection:
                return await accounts.use_totp(
                    connection, accounts.safe(mall_database.secret), held, totp.at(later), later
                )

        answers += sorted(await asyncio.gather(at_once(), at_once()))
        return answers

    assert with_database(mall_database, story) == [False, True, False, False, False, False, True]


def test_with_two_steps_the_password_alone_does_not_enter(mall_database: MallDatabase, visitor: NewVisitor) -> None:
    account = _make(mall_database, "careful")
    secret = accounts.new_totp_secret()
    totp = pyotp.TOTP(secret)

    async def turn_on(database: Database) -> None:
        async with database.identity() as connection:
            earlier = datetime.now(UTC) - timedelta(seconds=60)
            await accounts.turn_totp_on(
                connection, accounts.safe(mall_database.secret), account.account_id, secret, totp.at(earlier), earlier
            )

    with_database(mall_database, turn_on)
    (kept,) = mall_database.run("SELECT totp_secret FROM mall.account WHERE login = 'careful'")[0]
    assert secret not in kept
    code = totp.now()
    assert visitor().sign_in("careful").status_code == 422
    assert visitor().sign_in("careful", "wrong password", code).status_code == 422
    assert visitor().sign_in("careful", PASSWORD, code).status_code == 303
    assert visitor().sign_in("careful", PASSWORD, code).status_code == 422


def test_a_session_is_gone_when_forged_expired_idle_revoked_or_its_account_disabled(
    mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    account = _make(mall_database, "many")
    browsers = [visitor() for _ in range(4)]
    for browser in browsers:
        assert browser.sign_in("many").status_code == 303
        assert "Where you are signed in" in browser.get("/account").text
    expired, idle, revoked, kept = browsers

    def change(browser: Visitor, what: str) -> None:
        assert browser.session is not None
        mall_database.run(f"UPDATE mall.account_session SET {what} WHERE token_hash = %s", token_hash(browser.session))

    change(expired, "expires_at = now()")
    change(idle, "seen_at = now() - interval '25 hours'")
    assert revoked.session is not None
    ended = kept.post("/account/sessions/end", {"session": token_hash(revoked.session).hex()})
    assert ended.status_code == 303
    forged = visitor()
    forged.cookies.set("account", "A" * 43, domain="testserver.local")
    for browser in (expired, idle, revoked, forged):
        answer = browser.get("/account", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/signin?next=/account")
    assert kept.get("/account").status_code == 200
    mall_database.run("UPDATE mall.account SET disabled_at = now() WHERE account_id = %s", account.account_id)
    assert kept.get("/account", follow_redirects=False).status_code == 303


def test_signing_in_gives_a_new_token_and_ends_the_one_that_the_browser_came_with(
    mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    _make(mall_database, "fixated")
    browser = visitor()
    browser.sign_in("fixated")
    browser.get("/account")
    planted, csrf = browser.session, browser.cookies.get("csrftoken")
    assert planted is not None
    answer = browser.sign_in("fixated")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert browser.session not in (None, planted)
    assert browser.get("/account").status_code == 200
    assert browser.cookies.get("csrftoken") not in (None, csrf)
    thief = visitor()
    thief.cookies.set("account", planted, domain="testserver.local")
    assert thief.get("/account", follow_redirects=False).status_code == 303


def test_signing_out_ends_the_session_in_the_database_too(mall_database: MallDatabase, visitor: NewVisitor) -> None:
    _make(mall_database, "leaves")
    browser = visitor()
    browser.sign_in("leaves")
    kept = browser.session
    assert kept is not None
    browser.post("/signout")
    assert browser.session is None
    browser.cookies.set("account", kept, domain="testserver.local")
    assert browser.get("/account", follow_redirects=False).status_code == 303


def test_another_password_asks_for_the_present_one_and_ends_all_other_sessions(
    mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    _make(mall_database, "changes")
    here, elsewhere = visitor(), visitor()
    here.sign_in("changes")
    elsewhere.sign_in("changes")
    new = {"password": "another four words", "again": "another four words"}
    assert here.post("/account/password", {"present": "wrong password", **new}).status_code == 422
    assert here.post("/account/password", {"present": PASSWORD, **new}).status_code == 303
    assert here.get("/account").status_code == 200
    assert elsewhere.get("/account", follow_redirects=False).status_code == 303
    assert visitor().sign_in("changes", PASSWORD).status_code == 422
    assert visitor().sign_in("changes", "another four words").status_code == 303


def test_a_password_link_works_once_and_ends_every_session(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    account = _make(mall_database, "forgot")
    browser = visitor()
    browser.sign_in("forgot")
    shown = operator.post("/platform/people/do", {"deed": "password_link", "account_id": str(account.account_id)})
    token = token_in(shown.text)
    new = {"password": "another four words", "again": "another four words"}
    assert "For forgot" in visitor().get(f"/link/{token}").text
    assert visitor().make_account(token, "intruder").status_code == 422  # it is for another purpose, and stays usable
    assert visitor().post(f"/link/{token}/password", new).headers["location"] == "/signin?said=password_set"
    assert browser.get("/account", follow_redirects=False).status_code == 303
    again = visitor().post(f"/link/{token}/password", new)
    assert again.status_code == 410
    assert visitor().sign_in("forgot", "another four words").status_code == 303


def test_a_link_ends_with_its_time(mall_database: MallDatabase) -> None:
    account = _make(mall_database, "slow")

    async def story(database: Database) -> None:
        async with database.identity() as connection:
            token = await links.new_password(connection, account.account_id, _by(account), NOW)
            await links.read(connection, token, NOW + timedelta(hours=23))
            with pytest.raises(Refused, match="its time is over"):
                await links.take(connection, token, NOW + timedelta(hours=24))

    with_database(mall_database, story)


def _by(account: accounts.Account) -> links.By:
    return links.By(account.account_id, account.login, "test")


def test_a_hash_of_lower_costs_is_made_anew_at_the_next_sign_in(
    mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    account = _make(mall_database, "old", weak)
    assert visitor().sign_in("old").status_code == 303
    ((stronger,),) = mall_database.run("SELECT password_hash FROM mall.account WHERE login = 'old'")
    assert stronger != weak
    assert (
        argon2.extract_parameters(stronger).memory_cost > argon2.extract_parameters(account.password_hash).memory_cost
    )
    assert visitor().sign_in("old").status_code == 303


def test_a_form_without_its_token_is_refused(mall_database: MallDatabase, visitor: NewVisitor) -> None:
    _make(mall_database, "csrf")
    browser = visitor()
    browser.sign_in("csrf")
    for path in ("/signin", "/signout", "/account/password", "/account/totp/on", "/account/sessions/end"):
        browser.client.cookies = browser.cookies
        assert browser.client.post(path, data={"login": "csrf", "password": PASSWORD}).status_code == 403, path


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_nowhere_else(mall_database: MallDatabase, visitor: NewVisitor, elsewhere: str) -> None:
    login = f"led{abs(hash(elsewhere)) % 10**9}"
    _make(mall_database, login)
    answer = visitor().post("/signin", {"login": login, "password": PASSWORD, "next": elsewhere})
    assert answer.headers["location"] == "/merchant"


def test_what_no_column_holds_is_a_bad_request(visitor: NewVisitor, operator: Visitor) -> None:
    assert operator.get("/platform/shops?q=a%00b").status_code == 400


def test_what_the_database_holds_lets_nobody_in(mall_database: MallDatabase, visitor: NewVisitor) -> None:
    _make(mall_database, "stored")
    browser = visitor()
    browser.sign_in("stored")
    assert browser.session is not None
    dumped = str(mall_database.run("SELECT s::text FROM mall.account_session s")) + str(
        mall_database.run("SELECT a::text FROM mall.account a")
    )
    assert browser.session not in dumped
    assert PASSWORD not in dumped
    assert sessions.LASTS > sessions.IDLE


def test_the_platforms_role_sees_no_secret_and_makes_no_password_link(mall_database: MallDatabase) -> None:
    with psycopg.connect(make_conninfo(mall_database.dsn, user="mall_platform"), autocommit=True) as connection:
        for statement in (
            "SELECT password_hash FROM mall.account",
            "SELECT totp_secret FROM mall.account",
            "SELECT token_hash FROM mall.account_session",
            "SELECT token_hash FROM mall.account_link",
            "INSERT INTO mall.account_link (token_hash, purpose, account_id, expires_at) VALUES ('\\x00', 'new_password', NULL, now())",
            "UPDATE mall.account SET password_hash = ''",
            "DELETE FROM mall.platform_audit",
            "UPDATE mall.platform_audit SET action = ''",
            "DELETE FROM mall.directory",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
