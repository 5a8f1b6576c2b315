"""pycarta as published, old and new, each in its own environment; pycognito and boto3 as it brings them."""

import json
import os
import subprocess
import textwrap

import pytest

from conftest import FETCHED, OWNER, PATIENCE

OLD, NEW = "0.2.3", "0.3.12"
PASSWORD = "Correct-Horse-9"


@pytest.fixture
def pool(gateway):
    """alice, the administrator olga and temp, whose password is temporary."""
    gateway.configure()
    for name, temporary in ((OWNER, False), ("alice", False), ("temp", True)):
        gateway.set_password(name, PASSWORD, temporary=temporary)
    return gateway.serve()


def run(version, gateway, script, **variables):
    """Runs the script with this pycarta; what it leaves in `said`."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    kept |= {
        "HOME": str(gateway.folder),
        "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": gateway.rest(""),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONWARNINGS": "ignore",
        "GATEWAY": gateway.rest(""),
        "PASSWORD": PASSWORD,
    }
    whole = "import json, os\nHOST, PASSWORD = os.environ['GATEWAY'], os.environ['PASSWORD']\nsaid = {}\n"
    whole += textwrap.dedent(script) + "\nprint(); print(json.dumps(said))"
    python = FETCHED / f"pycarta-{version}/bin/python"
    done = subprocess.run(
        [python, "-c", whole],
        cwd=gateway.folder,
        env=kept | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("version", [OLD, NEW])
def test_pycarta_logs_in_by_password_and_not_by_a_wrong_one(pool, version):
    said = run(
        version,
        pool,
        """
        import pycarta
        from pycarta.exceptions import CartaException
        from pycarta.admin.user import get_current_user
        for name, password in (("alice", "Wrong-Horse-9"), ("nobody", PASSWORD), ("temp", PASSWORD)):
            try:
                pycarta.login(username=name, password=password, host=HOST)
                said[name] = "logged in"
            except Exception as error:
                said[name] = type(error).__name__
        said["login"] = pycarta.login(username="alice", password=PASSWORD, host=HOST)
        said["authenticated"] = pycarta.is_authenticated()
        said["user"] = get_current_user().name
        """,
    )
    assert said == {
        "alice": "BadCredentialsException",
        "nobody": "BadCredentialsException",
        "temp": said["temp"],
        "login": True,
        "authenticated": True,
        "user": "alice",
    }
    assert said["temp"] in ("ForceChangePasswordException", "BadCredentialsException")


@pytest.mark.parametrize(("version", "names"), [(OLD, ("USER", "PASS")), (NEW, ("USERNAME", "PASSWORD"))])
def test_pycarta_logs_in_by_the_environment(pool, version, names):
    user, password = names
    variables = {f"CARTA_{user}": "alice", f"CARTA_{password}": PASSWORD, "CARTA_HOST": pool.rest("")}
    script = """
        import pycarta
        said["login"] = pycarta.is_authenticated() or pycarta.login()
        said["user"] = pycarta.get_agent().get("user").json()["name"]
        """
    assert run(version, pool, script, **variables) == {"login": True, "user": "alice"}


def test_pycognito_and_boto3_log_in_choose_a_password_and_are_refused_what_administrators_do(pool):
    said = run(
        NEW,
        pool,
        """
        import boto3, requests
        from botocore import UNSIGNED
        from botocore.config import Config
        from pycognito.aws_srp import AWSSRP
        from pycognito.exceptions import ForceChangePasswordException

        pool = requests.get(HOST + "/auth").json()
        plain = boto3.client("cognito-idp", region_name=pool["region"], config=Config(signature_version=UNSIGNED))
        def srp(name, password):
            return AWSSRP(
                username=name, password=password, pool_id=pool["userPoolId"],
                client_id=pool["userPoolWebClientId"], client=plain,
            )
        def user(tokens):
            token = tokens["AuthenticationResult"]["IdToken"]
            return requests.get(HOST + "/user", headers={"Authorization": "Bearer " + token}).json()["name"]
        said["right"] = user(srp("alice", PASSWORD).authenticate_user())
        try:
            srp("temp", PASSWORD).authenticate_user()
        except ForceChangePasswordException as error:
            said["forced"] = type(error).__name__
        try:
            srp("temp", PASSWORD).set_new_password_challenge("weak")
        except plain.exceptions.InvalidPasswordException as error:
            said["weak"] = error.response["Error"]["Code"]
        said["chosen"] = user(srp("temp", PASSWORD).set_new_password_challenge("Chosen-Horse-10"))
        said["again"] = user(srp("temp", "Chosen-Horse-10").authenticate_user())
        signed = boto3.client(
            "cognito-idp", region_name="local", aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="example"
        )
        for name, call in {
            "old": lambda: srp("temp", PASSWORD).authenticate_user(),
            "get": lambda: signed.admin_get_user(UserPoolId=pool["userPoolId"], Username="alice"),
            "flow": lambda: plain.initiate_auth(
                AuthFlow="USER_PASSWORD_AUTH", ClientId="carta", AuthParameters={"USERNAME": "a", "PASSWORD": "b"}
            ),
            "client": lambda: plain.initiate_auth(
                AuthFlow="USER_SRP_AUTH", ClientId="other", AuthParameters={"USERNAME": "a", "SRP_A": "abc"}
            ),
        }.items():
            try:
                call()
            except plain.exceptions.ClientError as error:
                said[name] = error.response["Error"]["Code"]
            except signed.exceptions.ClientError as error:
                said[name] = error.response["Error"]["Code"]
        """,
    )
    assert said == {
        "right": "alice",
        "forced": "ForceChangePasswordException",
        "weak": "InvalidPasswordException",
        "chosen": "temp",
        "again": "temp",
        "old": "NotAuthorizedException",
        "get": "AccessDeniedException",
        "flow": "InvalidParameterException",
        "client": "ResourceNotFoundException",
    }


@pytest.mark.parametrize("version", [OLD, NEW])
def test_pycarta_manages_users_and_groups(pool, version):
    said = run(
        version,
        pool,
        """
        import pycarta
        from pycarta.admin.types import Group, User
        from pycarta.admin.user import create_user, get_user
        from pycarta.admin.group import add_user_to_group, create_group, list_members
        pycarta.login(username="olga", password=PASSWORD, host=HOST)
        carol = User(name="carol", email="carol@example.org", firstName="Carol", lastName="C", organization="Lab")
        said["created"] = create_user(carol).name
        said["exists"] = create_user(carol, exists_ok=True).name
        try:
            create_user(carol)
            said["twice"] = "fine"
        except Exception as error:
            said["twice"] = type(error).__name__
        found = get_user(username="carol")
        said["groups"] = sorted(str(group) for group in found.groups)
        said["partial"] = get_user(email="CAROL@", partial_match=True).name
        create_group(Group(name="Team", organization="Lab"))
        create_group(Group(name="Team", organization="Lab"), exists_ok=True)
        add_user_to_group(found, Group(name="Other"), create_if_not_exists=True)
        add_user_to_group(found, Group(name="Team", organization="Lab"))
        said["members"] = [user.name for user in list_members("Lab:Team")]
        said["others"] = [user.name for user in list_members(Group(name="Other"))]

        pycarta.login(username="alice", password=PASSWORD, host=HOST)
        try:
            create_user(User(name="dave", organization="Lab"))
        except Exception as error:
            said["denied"] = type(error).__name__

        def team():
            # The members are asked for where the function is decorated.
            return pycarta.authorize(groups=["Lab:Team"])(lambda: "in")()
        try:
            team()
        except Exception as error:
            said["out"] = True
        pycarta.login(username="olga", password=PASSWORD, host=HOST)
        add_user_to_group(get_user(username="alice"), Group(name="Team", organization="Lab"))
        pycarta.login(username="alice", password=PASSWORD, host=HOST)
        said["in"] = team()
        """,
    )
    assert said.pop("twice") == "InvalidParameterException"
    assert said == {
        "created": "carol",
        "exists": "carol",
        "groups": ["AllUsers", "Lab:All"],
        "partial": "carol",
        "members": ["carol"],
        "others": ["carol"],
        "denied": "PermissionDeniedException",
        "out": True,
        "in": "in",
    }


def test_pycarta_makes_uses_revokes_and_deletes_api_tokens(pool):
    said = run(
        NEW,
        pool,
        """
        import datetime
        import pycarta
        from pycarta.admin.user import get_current_user
        from pycarta.admin.v2 import SELF, TokenEndpoint, create_token, delete_token, list_tokens, revoke_token
        from pycarta.auth.agent import CartaAgent

        def outcome(act):
            try:
                return act()
            except Exception as error:
                return type(error).__name__

        pycarta.login(username="alice", password=PASSWORD, host=HOST)
        until = datetime.datetime.now() + datetime.timedelta(days=400)
        endpoints = [TokenEndpoint("GET", "/user"), TokenEndpoint(["POST", "PUT"], "/secret/**")]
        made = create_token(SELF, name="ci", allowed_endpoints=endpoints, expires=until, uses=2)
        said["made"] = [made.name, made.allowed_endpoints, made.uses, made.revoked, made.expires is not None]
        said["twice"] = outcome(lambda: create_token(SELF, name="ci", allowed_endpoints=endpoints))
        said["empty"] = outcome(lambda: create_token(SELF, name="none", allowed_endpoints=[]))
        said["nowhere"] = outcome(lambda: list_tokens("00000000-0000-0000-0000-000000000000"))
        (listed,) = list_tokens(SELF)
        said["hidden"] = [listed.token_key != made.token_key, made.token_key.startswith(listed.token_key[:4])]
        other = create_token(SELF, name="other", allowed_endpoints=[TokenEndpoint("ANY", "/**")])

        narrow = CartaAgent(api_token=made.token_key, host=HOST)
        said["authenticated"] = [narrow.is_authenticated() for _ in range(3)]
        said["user"] = narrow.get("user").json()["name"]
        said["outside"] = outcome(lambda: narrow.get("user/users"))
        said["again"] = narrow.get("user").json()["name"]
        said["spent"] = narrow.is_authenticated()
        said["left"] = {token.name: token.uses for token in list_tokens(SELF)}

        said["login"] = pycarta.login(api_token=other.token_key, host=HOST)
        said["as"] = get_current_user().name
        said["more"] = outcome(lambda: create_token(SELF, name="more", allowed_endpoints=endpoints))
        os.environ["CARTA_API_TOKEN"] = other.token_key
        said["by environment"] = pycarta.login(host=HOST)
        del os.environ["CARTA_API_TOKEN"]

        pycarta.login(username="alice", password=PASSWORD, host=HOST)
        revoke_token(SELF, "other")
        said["revoked"] = {token.name: token.revoked for token in list_tokens(SELF)}
        said["ended"] = CartaAgent(api_token=other.token_key, host=HOST).is_authenticated()
        delete_token(SELF, "other")
        said["gone"] = outcome(lambda: delete_token(SELF, "other"))
        said["names"] = [token.name for token in list_tokens(SELF)]
        """,
    )
    assert said == {
        "made": ["ci", ["GET /user", "POST|PUT /secret/**"], 2, False, True],
        "twice": "DuplicateApiTokenError",
        "empty": "InvalidParameterException",
        "nowhere": "ResourceNotFoundError",
        "hidden": [True, True],
        "authenticated": [True, True, True],
        "user": "alice",
        "outside": "PermissionDeniedException",
        "again": "alice",
        "spent": False,
        "left": {"ci": 0, "other": None},
        "login": True,
        "as": "alice",
        "more": "PermissionDeniedException",
        "by environment": True,
        "revoked": {"ci": False, "other": True},
        "ended": False,
        "gone": "ResourceNotFoundError",
        "names": ["ci"],
    }
