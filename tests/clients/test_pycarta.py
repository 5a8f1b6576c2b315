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


@pytest.fixture
def lab(gateway, upstream):
    """alice and bob, and an upstream that services may be registered for."""
    gateway.configure("[register]\nallow_loopback = true")
    for name in (OWNER, "alice", "bob"):
        gateway.set_password(name, PASSWORD)
    gateway.upstream = upstream
    return gateway.serve()


AS = """
        import warnings
        warnings.simplefilter("ignore")
        import pycarta
        agents = {}
        def be(name):
            if name not in agents:
                pycarta.login(username=name, password=PASSWORD, host=HOST)
                agents[name] = pycarta.get_agent()
            pycarta.set_agent(agents[name])
        def tried(call):
            try:
                call()
                return "done"
            except Exception as error:
                return type(error).__name__
        """


@pytest.mark.parametrize("version", [OLD, NEW])
def test_pycarta_shares_by_role_with_users_groups_and_projects(lab, version):
    said = run(
        version,
        lab,
        AS
        + """
        import requests
        from pycarta.admin import permission as p
        from pycarta.admin.group import add_user_to_group, create_group
        from pycarta.admin.project import create_project
        from pycarta.admin.types import Group
        from pycarta.admin.user import get_user

        UPSTREAM = os.environ["UPSTREAM"]
        be("alice")
        agent = pycarta.get_agent()
        agent.post("service/reserve/lab")
        service = agent.post("service/register/lab/tool", params={"baseUrl": UPSTREAM}).json()["id"]

        def permission(text):
            return sorted(name for name, held in dict(text).items() if held)
        def calls():
            be("bob")
            told = tried(lambda: pycarta.get_agent().get("service/lab/tool/x"))
            mine = permission(p.get_user_permission(service, "bob", "User"))
            be("alice")
            return [told, mine]

        said["types"] = [kind.value for kind in p.resource_types()]
        said["before"] = calls()
        p.set_user_permission(service, "bob", "User", "Guest")
        said["guest"] = calls()
        p.set_user_permission(service, "bob", "User", "User")
        said["user"] = calls()
        p.set_user_permission(service, "bob", "User", "None")
        said["none"] = calls()
        p.remove_user_permission(service, "bob", "User")
        create_group(Group(name="team"))
        add_user_to_group(get_user(username="bob"), Group(name="team"))
        p.set_user_permission(service, "team", "UserGroup", "User")
        said["group"] = calls()
        said["entries"] = [
            [entity.user_id, entity.user_type.value, permission(entity.permissions)]
            for entity in p.list_resource_permissions(service, "UserGroup")
        ]
        p.remove_user_permission(service, "team", "UserGroup")
        said["left"] = calls()
        project = create_project("shared", "bucket")
        p.set_user_permission(project.id, "bob", "User", "User")
        p.set_user_permission(service, project.id, "ProjectItem", "Editor")
        said["project"] = calls()
        said["owner"] = permission(p.list_resource_permissions(service, "User")[0].permissions)
        said["services"] = [item.name for item in p.get_user_resources("Service")]
        said["projects"] = [item.bucket_name for item in p.get_user_resources("Project")]
        said["namespace"] = p.get_user_resources("Namespace")[0].name
        said["one"] = p.get_resource("Service", service).base_url == UPSTREAM
        be("bob")
        said["his"] = [item.name for item in p.get_user_resources("Service")]
        said["may not"] = tried(lambda: p.set_user_permission(service, "bob", "User", "Editor"))
        said["nothing"] = tried(lambda: p.get_resource("Project", service))
        """,
        UPSTREAM=lab.upstream.url,
    )
    assert said.pop("nothing") in ("HTTPError", "HTTPStatusError", "CartaHTTPError")
    assert said == {
        "types": ["Workspace", "Connection", "File", "Namespace", "Service", "Project"],
        "before": ["PermissionDeniedException", []],
        "guest": ["PermissionDeniedException", ["read"]],
        "user": ["done", ["execute", "read"]],
        "none": ["PermissionDeniedException", []],
        "group": ["done", ["execute", "read"]],
        "entries": [["team", "UserGroup", ["execute", "read"]]],
        "left": ["PermissionDeniedException", []],
        "project": ["done", ["execute", "read"]],
        "owner": ["admin", "clone", "execute", "read", "write"],
        "services": ["tool"],
        "projects": ["bucket"],
        "namespace": "lab",
        "one": True,
        "his": ["tool"],
        "may not": "PermissionDeniedException",
    }


@pytest.mark.parametrize("version", [OLD, NEW])
def test_pycarta_keeps_projects_connections_workspaces_and_no_files(lab, version):
    said = run(
        version,
        lab,
        AS
        + """
        from pycarta.admin import file as f, permission as p, project as pr, workspace as w
        from pycarta.admin.types import Connection, NativeId, PermissionsRole, UserType
        be("alice")
        project = pr.create_project("p", "b")
        said["project"] = [project.name, project.bucket_name]
        made = pr.create_connection(
            project.id,
            Connection(name="c", backend="S3", key_path="k", native_id=NativeId(file_id="f", bucket_name="b", prefix="x")),
        )
        said["connection"] = [made.name, made.backend, made.key_path, made.native_id.file_id]
        listed = p.get_user_resources("Connection")
        said["listed"] = [one.id == made.id for one in listed]
        pr.delete_connection(made.id)
        pr.delete_project(project.id)
        said["gone"] = [len(p.get_user_resources(kind)) for kind in ("Connection", "Project")]

        made = w.create_workspace("ours")
        said["workspace"] = [made.name, made.archived]
        said["again"] = tried(lambda: w.create_workspace("ours"))
        said["by name"] = w.get_workspace("ours").id == made.id
        given = w.set_workspace_permission(made.id, "bob", UserType.USER, PermissionsRole.USER)
        said["given"] = given["permission"]
        said["told"] = w.get_workspace_permission(made.id, "bob", UserType.USER)["permission"]
        said["all"] = sorted(entity.user_id for entity in w.get_workspace_permissions("ours"))
        be("bob")
        said["his"] = [one.name for one in w.current_user_workspaces()]
        said["may not"] = tried(lambda: w.delete_workspace("ours"))
        be("alice")
        said["taken"] = w.remove_workspace_permission(made.id, "bob", UserType.USER)["permission"]
        w.delete_workspace("ours")
        said["left"] = w.current_user_workspaces()

        said["sources"] = f.list_file_sources()
        said["support"] = tried(lambda: f.file_source_support("Carta"))
        said["files"] = tried(lambda: f.list_files("Carta"))
        said["file"] = tried(lambda: f.get_file("Carta", "1"))
        """,
    )
    failures = {said.pop(name) for name in ("support", "files", "file")}
    assert failures <= {"HTTPError", "HTTPStatusError", "CartaHTTPError"}
    assert said == {
        "project": ["p", "b"],
        "connection": ["c", "S3", "k", "f"],
        "listed": [True],
        "gone": [0, 0],
        "workspace": ["ours", False],
        "again": "InvalidParameterException",
        "by name": True,
        "given": "Read, Execute",
        "told": "Read, Execute",
        "all": ["alice", "bob"],
        "his": ["ours"],
        "may not": "PermissionDeniedException",
        "taken": "None",
        "left": [],
        "sources": [],
    }


def test_pycarta_new_sets_tiers_and_keeps_resources(lab):
    said = run(
        NEW,
        lab,
        AS
        + """
        import asyncio
        from pycarta.admin.user import get_user
        from pycarta.admin.group import add_user_to_group, create_group
        from pycarta.admin.types import Group
        from pycarta.admin.v2 import permission as p, resource as r
        from pycarta.admin.v2.advanced import get_all_permissions, permission_diff
        from pycarta.admin.v2.aio import permission as ap, resource as ar
        from pycarta.admin.v2.types import PermissionFlags, PermissionSet
        def held(flags):
            return [name for name, on in flags.model_dump().items() if on]
        def tiers(given):
            return [held(given.user), held(given.private), held(given.shared)]
        be("alice")
        bob = get_user(username="bob").id
        data = r.create_resource("data", ["Dataset"], {"rows": 3})
        team = r.create_resource("team", ["Project"])
        said["got"] = r.get_resource(data).model_dump() == data.model_dump()
        said["changed"] = r.update_resource(data, name="rows", props={"rows": 4}).model_dump()["props"]
        wanted = PermissionSet(
            user=PermissionFlags(read=True), private=PermissionFlags(admin=True), shared=PermissionFlags(execute=True)
        )
        said["set"] = p.set_permissions(team, data, wanted) == wanted
        said["direct"] = tiers(p.get_direct_permissions(team, data))
        p.set_permissions(bob, team, PermissionSet(user=PermissionFlags(execute=True)))
        said["bob"] = held(p.get_permissions(bob, data))
        said["self"] = held(p.get_permissions("self", data))
        said["labels"] = p.list_labels("self")
        said["resources"] = [[one.name, held(one.permission)] for one in p.list_resources("self", "Dataset")]
        said["accessors"] = [[one.name, tiers(one.permission)] for one in p.list_accessors(data, "Project")]
        audit = get_all_permissions("self")
        said["audit"] = sorted({(entry.resource_name, entry.accessor_name) for entry in audit.entries})
        diff = permission_diff(team, data, ["User"])
        said["diff"] = [[info.accessor_name for info in part] for part in (diff.added, diff.removed, diff.unchanged)]
        p.delete_permissions(team, data)
        said["after"] = held(p.get_permissions(bob, data))

        async def asynchronous():
            made = await ar.create_resource("async", ["Dataset"])
            await ap.set_permissions(bob, made, PermissionSet(user=PermissionFlags(read=True)))
            said["async"] = held(await ap.get_permissions(bob, made))
            said["async direct"] = tiers(await ap.get_direct_permissions(bob, made))
            said["async labels"] = await ap.list_labels("self")
            said["async resources"] = len(await ap.list_resources("self", "Dataset"))
            said["async accessors"] = [one.name for one in await ap.list_accessors(made, "User")]
            said["at once"] = len(await asyncio.gather(*[ap.list_accessors(made, "User") for _ in range(24)]))
            await ap.delete_permissions(bob, made)
            await ar.update_resource(made, name="other")
            said["async name"] = (await ar.get_resource(made)).name
            await ar.delete_resource(made, verify=True)
        asyncio.run(asynchronous())

        be("bob")
        said["denied"] = tried(lambda: p.set_permissions("self", data, wanted))
        said["unread"] = tried(lambda: r.get_resource(data))
        be("alice")
        r.delete_resource(data, verify=True)
        said["gone"] = tried(lambda: r.get_resource(data))
        said["nowhere"] = tried(lambda: p.get_permissions("self", data))
        """,
    )
    assert said == {
        "got": True,
        "changed": {"rows": 4},
        "set": True,
        "direct": [["read"], ["admin"], ["execute"]],
        "bob": ["execute"],
        "self": ["execute", "write", "read", "admin", "owner"],
        "labels": ["Dataset", "Project"],
        "resources": [["rows", ["execute", "write", "read", "admin", "owner"]]],
        "accessors": [["team", [["read"], ["admin"], ["execute"]]]],
        "audit": [["rows", "alice"], ["team", "alice"], ["team", "bob"]],
        "diff": [[], ["bob"], ["alice"]],
        "after": [],
        "async": ["read"],
        "async direct": [["read"], [], []],
        "async labels": ["Dataset", "Project"],
        "async resources": 2,
        "at once": 24,
        "async accessors": ["alice", "bob"],
        "async name": "other",
        "denied": "PermissionDeniedException",
        "unread": "PermissionDeniedException",
        "gone": "ResourceNotFoundError",
        "nowhere": "ResourceNotFoundError",
    }


def test_an_audit_of_all_permissions_ends_where_pycarta_may_not_look(lab):
    """The client means to note a 403 and go on; its agent has turned it into another exception by then."""
    said = run(
        NEW,
        lab,
        AS
        + """
        import traceback
        from pycarta.admin.user import get_user
        from pycarta.admin.v2 import permission as p, resource as r
        from pycarta.admin.v2.advanced import get_all_permissions
        from pycarta.admin.v2.types import PermissionFlags, PermissionSet
        be("alice")
        data = r.create_resource("data", ["Dataset"])
        p.set_permissions(get_user(username="bob").id, data, PermissionSet(user=PermissionFlags(read=True)))
        be("bob")
        try:
            said["denied"] = len(get_all_permissions("self").denied)
        except Exception as error:
            said["error"] = type(error).__name__
            said["where"] = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        """,
    )
    assert said["error"] == "PermissionDeniedException" and "get_all_permissions" in said["where"]
@pytest.mark.parametrize("version", [OLD, NEW])
def test_pycarta_and_boto3_reset_a_password_with_a_configured_key_and_with_no_other(gateway, version):
    identity, secret = "CARTAADMIN000001", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    gateway.configure(f'[[auth.local.admin_keys]]\nid = "{identity}"\nsecret = "{secret}"')
    for name, temporary in ((OWNER, False), ("alice", False), ("temp", True)):
        gateway.set_password(name, PASSWORD, temporary=temporary)
    gateway.serve()
    script = """
        import boto3
        import pycarta
        from pycarta.auth.agent import CartaAgent
        agent = CartaAgent(username="olga", password=PASSWORD, host=HOST)
        for name in ("alice", "temp", "nobody"):
            try:
                agent.reset_user_password(name)
                said[name] = "reset"
            except Exception as error:
                said[name] = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        if SIGNS:
            client = boto3.client("cognito-idp")
            for name in ("alice", "temp"):
                found = client.admin_get_user(UserPoolId="local_carta", Username=name)
                said[name] += " " + found["UserStatus"]
            made = found["UserCreateDate"]
            said["made"] = made.year
            said["sub"] = [pair["Name"] for pair in found["UserAttributes"]]
        for name in ("alice", "olga"):
            try:
                said[name + " logs in"] = pycarta.login(username=name, password=PASSWORD, host=HOST)
            except Exception as error:
                said[name + " logs in"] = type(error).__name__
        """
    keys = {"AWS_DEFAULT_REGION": "us-east-2", "AWS_ACCESS_KEY_ID": identity}
    wrong = run(version, gateway, script.replace("SIGNS", "False"), **keys, AWS_SECRET_ACCESS_KEY="other")
    denied = dict.fromkeys(("alice", "temp", "nobody"), "AccessDeniedException")
    assert wrong == denied | {"alice logs in": True, "olga logs in": True}
    said = run(version, gateway, script.replace("SIGNS", "True"), **keys, AWS_SECRET_ACCESS_KEY=secret)
    assert said.pop("made") > 2000
    assert said == {
        "alice": "reset RESET_REQUIRED",
        "temp": "reset RESET_REQUIRED",
        "nobody": "UserNotFoundException",
        "sub": ["sub"],
        "alice logs in": "BadCredentialsException",
        "olga logs in": True,
    }
