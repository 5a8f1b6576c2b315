"""`import` on what the real libraries write, and the gateway's answers beside theirs."""

import json
import sqlite3
import subprocess
import sys

import pytest
import requests

from conftest import PATIENCE

DJANGO = """
import django, itertools, json, sys
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_grainy"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField", USE_TZ=True,
)
django.setup()
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django_grainy.util import get_permissions
call_command("migrate", verbosity=0)
ann, bob = User.objects.create(username="ann"), User.objects.create(username="bob", is_active=False)
staff, lab = Group.objects.create(name="Staff"), Group.objects.create(name="Org:Lab")
ann.groups.set([staff, lab])
for of, rows in [
    (ann, {"a": "r", "a.b": "crud", "a.b.c": 0, "w.*.y": "cu", "over": "r"}),
    (bob, {"a.*": "d"}),
    (staff, {"q": "r", "over": "cud", "w.x": "r"}),
    (lab, {"q.secret": 0, "z": "crud"}),
]:
    for namespace, flags in rows.items():
        of.grainy_permissions.add_permission(namespace, flags)
names = ["a", "a.b", "a.b.c", "a.b.c.d", "a.x", "w", "w.x", "w.x.y", "w.k.y.z", "over", "q", "q.secret", "z.z", "none"]
print(json.dumps({user.username: {name: get_permissions(user, name) for name in names} for user in (ann, bob)}))
"""

MARA = """
import sys, sqlalchemy, sqlalchemy.orm
from mara_acl import keys, permissions, users
from mara_page import acl
engine = sqlalchemy.create_engine("sqlite:///" + sys.argv[1])
users.Base.metadata.create_all(engine)
permissions.Base.metadata.create_all(engine)
data = acl.AclResource("Data")
spend = acl.AclResource("Marketing spend"); spend.parent = data
with sqlalchemy.orm.Session(engine) as session:
    session.add_all([users.User("ann@example.com", "Analyst"), users.User("bob@example.com", "Guest")])
    session.add_all([
        permissions.Permission(keys.user_key("Analyst"), keys.resource_key(spend)),
        permissions.Permission(keys.user_key("Guest", "bob@example.com"), keys.resource_key(data)),
        permissions.Permission(keys.user_key("Analyst", "bob@example.com"), keys.resource_key(data)),
    ])
    session.commit()
"""


def library(script, *arguments):
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def masks(gateway, token, user, names):
    """What the gateway says that the user may do, in grainy's masks."""
    bits = {"read": 1, "update": 2, "create": 4, "delete": 8, "execute": 16}
    checks = [{"user": user, "resource": name.split("."), "level": "read"} for name in names]
    answer = requests.post(
        gateway.rest("/permissions/check"), headers=token, data=json.dumps({"checks": checks}), timeout=PATIENCE
    )
    assert answer.ok, answer.text
    held = [sum(bits[level] for level in one["levels"]) for one in answer.json()["answers"]]
    return dict(zip(names, held, strict=True))


def test_django_grainys_own_database_answers_alike_but_for_what_is_reported(gateway):
    gateway.configure()
    theirs = json.loads(library(DJANGO, str(gateway.folder / "db.sqlite3")))
    report = gateway.run("import", "grainy", "db.sqlite3")
    gateway.serve()
    ours = masks(gateway, gateway.bearer("olga"), "ann", theirs["ann"])
    different = {name for name, mask in theirs["ann"].items() if mask != ours[name]}
    # The user's row no longer replaces the group's, at the same name or by a longer one: both count, and the report says so.
    assert different == {"over", "w.x.y"} and (theirs["ann"]["over"], ours["over"]) == (1, 15), (theirs, ours)
    assert "[D1] user ann: over: django-grainy gives read; here it is create, read, update, delete" in report
    assert "[D1] user ann: w.x.y: django-grainy gives create, update; here it is create, read, update" in report
    # Who was not active cannot come in.
    assert set(masks(gateway, gateway.bearer("olga"), "bob", theirs["bob"]).values()) == {0}
    assert gateway.run("token", "bob", check=False) == ""


def test_mara_acls_own_tables_become_grants(gateway):
    gateway.configure()
    library(MARA, str(gateway.folder / "mara.db"))
    assert sqlite3.connect(gateway.folder / "mara.db").execute("SELECT count(*) FROM acl_permission").fetchone() == (3,)
    report = gateway.run("import", "mara", "mara.db", "--under", "bi")
    assert "[dormant] user__Analyst__bob-example-com on resource__All__Data" in report, report
    gateway.serve()
    token = gateway.bearer("olga")
    names = ["bi", "bi.Data", "bi.Data.Marketing-spend", "bi.Data.Costs"]
    assert masks(gateway, token, "ann@example.com", names) == dict(zip(names, [0, 0, 31, 0], strict=True))
    assert masks(gateway, token, "bob@example.com", names) == dict(zip(names, [0, 31, 31, 31], strict=True))


@pytest.mark.parametrize("form", ["yml", "json"])
def test_ctls_own_reading_of_its_permissions_is_ours(gateway, form):
    from grainy.core import PermissionSet, int_flags

    rows = [
        {"namespace": "ctl", "permission": "r"},
        {"namespace": "ctl.*", "permission": "cu"},
        {"namespace": "ctl.ls", "permission": "deny"},
        {"namespace": "ctl.*.stop", "permission": "u"},
    ]
    # As `ctl.Ctl.init_permissions` makes it.
    theirs = PermissionSet({row.get("namespace"): int_flags(row.get("permission")) for row in rows})
    gateway.configure()
    gateway.run("user", "add", "ci")
    # JSON is YAML, too.
    (gateway.folder / f"config.{form}").write_text(
        json.dumps({"ctl": {"permissions": rows}})
        if form == "json"
        else "ctl:\n  permissions:\n" + "".join(f"  - {json.dumps(row)}\n" for row in rows)
    )
    gateway.run("import", "ctl", f"config.{form}", "--for", "ci")
    gateway.serve()
    names = ["ctl", "ctl.ls", "ctl.ls.x", "ctl.web.stop", "ctl.ls.stop", "other"]
    ours = masks(gateway, gateway.bearer("ci"), "ci", names)
    assert ours == {name: theirs.get_permissions(name) for name in names}
