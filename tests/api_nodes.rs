//! Records that are kept so that they can be shared, and version 1 of the permissions on them: `docs/API.md` §6, §8,
//! §17, §18.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::json;
use support::who::{done, names, text};
use support::{Gateway, Who};

fn house() -> Gateway {
    Gateway::builder().user("alice", &[]).user("bob", &[]).user("carol", &[]).start()
}

#[test]
fn a_record_is_made_read_changed_and_deleted() {
    let gateway = house();
    let [alice, bob] = ["alice", "bob"].map(|name| Who::of(&gateway, name));
    let made =
        alice.make(&json!({"name": "Set", "labels": ["Dataset", "Dataset", "Big"], "props": {"rows": [1, null]}}));
    let id = text(&made["id"]);
    assert_eq!(made, json!({"id": id, "name": "Set", "labels": ["Dataset", "Big"], "props": {"rows": [1, null]}}));
    let at = format!("/v2/resource/{id}");
    assert_eq!(done(alice.get(&at)), made);
    // Names need not be unique, and props need not be there.
    assert_eq!(alice.make(&json!({"name": "Set", "labels": ["Dataset"]}))["props"], json!({}));
    for (method, body) in [("GET", None), ("PUT", Some(json!({}))), ("DELETE", None)] {
        let response = match body {
            Some(body) => bob.send(method, &at, &body),
            None => bob.ask(method, &at),
        };
        assert_eq!((response.status(), &response.json()["owner"]), (403, &"alice".into()), "{method}");
    }
    let changed = done(alice.send("PUT", &at, &json!({"name": "Other"})));
    assert_eq!((&changed["name"], &changed["props"]), (&"Other".into(), &made["props"]), "what is absent stays");
    let changed = done(alice.send("PUT", &at, &json!({"props": {"new": true}})));
    assert_eq!((&changed["name"], &changed["props"]), (&"Other".into(), &json!({"new": true})), "all props");
    // Who may read may not write; who may write may not delete.
    for (role, statuses) in [("Guest", [200, 403, 403]), ("Editor", [200, 200, 403])] {
        done(alice.ask("PUT", &format!("/permissions/{id}/bob?role={role}")));
        let told = [bob.get(&at), bob.send("PUT", &at, &json!({"props": {}})), bob.ask("DELETE", &at)];
        assert_eq!(told.map(|response| response.status()), statuses, "{role}");
    }
    done(alice.ask("DELETE", &at));
    for who in [&alice, &bob] {
        assert_eq!((who.get(&at).status(), who.ask("DELETE", &at).status()), (404, 404));
    }
    assert_eq!(done(bob.get("/v2/permissions/self/labels")), json!([]), "what was granted on it is gone");
}

#[test]
fn who_writes_and_does_not_read_is_answered_what_was_sent() {
    let gateway = house();
    let [alice, bob] = ["alice", "bob"].map(|name| Who::of(&gateway, name));
    let id = text(&alice.make(&json!({"name": "Set", "labels": ["Dataset"], "props": {"key": "k"}}))["id"]);
    done(alice.send("PUT", &format!("/v2/permissions/{}/{id}", bob.id), &json!({"user": {"write": true}})));
    let at = format!("/v2/resource/{id}");
    assert_eq!(bob.get(&at).status(), 403);
    let shown = |props| json!({"id": id, "name": "Set", "labels": ["Dataset"], "props": props});
    assert_eq!(done(bob.send("PUT", &at, &json!({}))), shown(json!({})));
    assert_eq!(done(bob.send("PUT", &at, &json!({"props": {"new": 1}}))), shown(json!({"new": 1})));
    assert_eq!(done(bob.send("PUT", &at, &json!({"name": "Set"}))), shown(json!({})));
    assert_eq!(done(alice.get(&at)), shown(json!({"new": 1})));
}

#[test]
fn what_cannot_be_a_record_is_refused_and_nothing_else_is_changed_here() {
    let gateway = house();
    let [alice, bob] = ["alice", "bob"].map(|name| Who::of(&gateway, name));
    let long = "x".repeat(257);
    for body in [
        json!({"labels": ["A"]}),
        json!({"name": "", "labels": ["A"]}),
        json!({"name": 1, "labels": ["A"]}),
        json!({"name": long, "labels": ["A"]}),
        json!({"name": "a\nb", "labels": ["A"]}),
        json!({"name": "n"}),
        json!({"name": "n", "labels": []}),
        json!({"name": "n", "labels": "A"}),
        json!({"name": "n", "labels": [1]}),
        json!({"name": "n", "labels": ["User"]}),
        json!({"name": "n", "labels": ["A", "Service"]}),
        json!({"name": "n", "labels": (0..17).map(|number| number.to_string()).collect::<Vec<_>>()}),
        json!({"name": "n", "labels": ["A"], "props": []}),
        json!({"name": "n", "labels": ["A"], "props": {"x": "x".repeat(65536)}}),
        json!([]),
    ] {
        let response = alice.send("POST", "/v2/resource/generic", &body);
        assert_eq!(response.status(), 400, "{}", response.text());
    }
    done(alice.ask("POST", "/service/reserve/lab"));
    done(alice.ask("POST", "/user/group/team"));
    let me = text(&done(alice.get("/user"))["id"]);
    let lab = text(&done(alice.get("/service/details/lab"))["id"]);
    assert_eq!(
        done(alice.get("/v2/resource/self")),
        json!({"id": me, "name": "alice", "labels": ["User"], "props": {}})
    );
    assert_eq!(done(alice.get(&format!("/v2/resource/{lab}")))["labels"], json!(["Namespace"]));
    for (id, status) in [("self", 403), (me.as_str(), 403), (lab.as_str(), 400)] {
        let at = format!("/v2/resource/{id}");
        assert_eq!(alice.send("PUT", &at, &json!({"name": "x"})).status(), status, "{id}");
        assert_eq!(alice.ask("DELETE", &at).status(), status, "{id}");
    }
    assert_eq!(bob.get(&format!("/v2/resource/{me}")).status(), 403, "what stands for somebody is theirs to show");
    assert_eq!(bob.ask("DELETE", &format!("/v2/resource/{lab}")).status(), 403);
    assert_eq!(alice.get("/v2/resource/lab").status(), 404);
    let record = text(&alice.make(&json!({"name": "n", "labels": ["A"]}))["id"]);
    for body in [json!({"name": ""}), json!({"name": 1}), json!({"props": 1})] {
        assert_eq!(alice.send("PUT", &format!("/v2/resource/{record}"), &body).status(), 400, "{body}");
    }
}

#[test]
fn a_project_has_connections_that_its_rights_reach() {
    let gateway = house();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Who::of(&gateway, name));
    for body in [json!({"name": "P"}), json!({"bucketName": "b"}), json!({"name": "P", "bucketName": 1})] {
        assert_eq!(alice.send("POST", "/project", &body).status(), 400, "{body}");
    }
    let project = done(alice.send("POST", "/project", &json!({"name": "P", "bucketName": "b"})));
    let id = text(&project["id"]);
    let all = "Read, Write, Execute, Clone, Admin";
    assert_eq!(project, json!({"id": id, "name": "P", "bucketName": "b", "permission": all}));
    let at = format!("/project/connection/{id}");
    let body = json!({
        "name": "C", "backend": "S3", "keyPath": "k", "nativeId": {"fileId": "f", "bucketName": "b", "prefix": "p"},
    });
    assert_eq!(bob.send("POST", &at, &body).status(), 403);
    assert_eq!(alice.send("POST", &at, &json!({"name": "C"})).status(), 400);
    assert_eq!(alice.send("POST", &at, &json!({"name": "C", "backend": "S3", "nativeId": 1})).status(), 400);
    assert_eq!(alice.send("POST", "/project/connection/none", &body).status(), 404);
    done(alice.ask("PUT", &format!("/permissions/{id}/bob?role=Editor")));
    let made = done(bob.send("POST", &at, &body));
    let connection = text(&made["id"]);
    let mut expected = body.clone();
    expected["id"] = made["id"].clone();
    expected["permission"] = all.into();
    assert_eq!(made, expected);
    let bare = done(alice.send("POST", &at, &json!({"name": "D", "backend": "S3"})));
    assert_eq!(bare.as_object().unwrap().len(), 4, "no nulls: {bare}");
    // Rights on the project reach what is in it; the connection is its maker's.
    done(alice.ask("PUT", &format!("/permissions/{id}/carol?role=Guest")));
    let listed = done(carol.get("/permissions/resources/Connection"));
    assert_eq!((names(&listed), &listed[0]["permission"]), (vec!["C".to_owned(), "D".to_owned()], &"Read".into()));
    assert_eq!(carol.ask("DELETE", &format!("/project/connection/{connection}")).status(), 403);
    assert_eq!(bob.ask("DELETE", &format!("/project/connection/{id}")).status(), 404, "a project is no connection");
    assert_eq!(bob.ask("DELETE", &format!("/project/{id}")).status(), 403);
    done(alice.ask("DELETE", &format!("/project/connection/{connection}")));
    done(alice.ask("DELETE", &format!("/project/{id}")));
    assert_eq!(alice.get(&format!("/v2/resource/{}", text(&bare["id"]))).status(), 404, "gone with its project");
    assert_eq!(done(carol.get("/permissions/resources/Connection")), json!([]));
}

#[test]
fn a_workspace_goes_by_id_and_name_and_is_shared_as_anything_else() {
    let gateway = house();
    let [alice, bob] = ["alice", "bob"].map(|name| Who::of(&gateway, name));
    let made = done(alice.ask("POST", "/workspace/my%20lab"));
    let id = text(&made["id"]);
    let all = "Read, Write, Execute, Clone, Admin";
    assert_eq!(made, json!({"id": id, "name": "my lab", "archived": false, "permission": all}));
    let taken = bob.ask("POST", "/workspace/my%20lab");
    assert_eq!((taken.status(), taken.text().contains("duplicate record")), (400, true));
    assert_eq!(alice.ask("POST", &format!("/workspace/{id}")).status(), 400, "a name that reads as an id");
    assert_eq!(done(alice.get("/workspace/my%20lab")), made);
    assert_eq!(done(alice.get(&format!("/workspace/{id}"))), made);
    assert_eq!((bob.get(&format!("/workspace/{id}")).status(), bob.get("/workspace/none").status()), (403, 404));
    assert_eq!(done(bob.get("/workspace")), json!([]));
    let entry = format!("/workspace/{id}/permissions/user/bob");
    let given = done(alice.ask("PUT", &format!("{entry}?userType=User&role=User")));
    assert_eq!((&given["userId"], &given["permission"]), (&"bob".into(), &"Read, Execute".into()));
    assert_eq!(done(bob.get(&format!("{entry}?userType=User"))), given, "what is held, as an entity");
    assert_eq!(done(bob.get("/workspace"))[0]["permission"], "Read, Execute");
    let entries = done(alice.get("/workspace/my%20lab/permissions/users?userType=User"));
    let users: Vec<String> = entries.as_array().unwrap().iter().map(|entry| text(&entry["userId"])).collect();
    assert_eq!(users, ["alice", "bob"]);
    assert_eq!(bob.ask("PUT", &format!("{entry}?userType=User&role=Editor")).status(), 403);
    assert_eq!(done(alice.ask("DELETE", &format!("{entry}?userType=User")))["permission"], "None");
    assert_eq!(
        (bob.ask("DELETE", &format!("/workspace/{id}")).status(), bob.get("/workspace").json()),
        (403, json!([]))
    );
    done(alice.ask("DELETE", "/workspace/my%20lab"));
    assert_eq!(alice.get(&format!("/workspace/{id}")).status(), 404);
    done(bob.ask("POST", "/workspace/my%20lab"));
}

#[test]
fn version_1_lists_and_shows_every_type_and_shares_with_every_kind() {
    let gateway = house();
    let [alice, bob, olga] = ["alice", "bob", "olga"].map(|name| Who::of(&gateway, name));
    let types = json!(["Workspace", "Connection", "File", "Namespace", "Service", "Project"]);
    assert_eq!(done(alice.get("/permissions/resources")), types);
    done(alice.ask("POST", "/service/reserve/lab"));
    done(alice.ask("POST", "/service/register/lab/tool?baseUrl=http://localhost:1/x"));
    let lab = text(&done(alice.get("/service/details/lab"))["id"]);
    let service = done(alice.get("/service/details/lab/tool"));
    let id = text(&service["id"]);
    let project = text(&done(alice.send("POST", "/project", &json!({"name": "P", "bucketName": "b"})))["id"]);
    done(alice.ask("POST", "/workspace/w"));
    let file = alice.make(&json!({"name": "f", "labels": ["File"], "props": {"storageInfo": {"storageType": "S3"}}}));
    assert_eq!(done(alice.get(&format!("/permissions/resources/Service/{id}"))), service);
    assert_eq!(alice.get(&format!("/permissions/resources/Namespace/{id}")).status(), 404, "another type");
    assert_eq!(alice.get(&format!("/permissions/resources/Robot/{id}")).status(), 404);
    assert_eq!(alice.get("/permissions/resources/Robot").status(), 404);
    assert_eq!(bob.get(&format!("/permissions/resources/Service/{id}")).status(), 403);
    for kind in types.as_array().unwrap() {
        let list = done(alice.get(&format!("/permissions/resources/{}?userId=", text(kind))));
        assert_eq!(list.as_array().unwrap().len(), usize::from(kind != "Connection"), "{kind}");
        assert_eq!(done(bob.get(&format!("/permissions/resources/{}", text(kind)))), json!([]), "{kind}");
    }
    let shown = done(alice.get(&format!("/permissions/resources/File/{}", text(&file["id"]))));
    assert_eq!(shown["storageInfo"], json!({"storageType": "S3", "compressed": false}));
    // Who holds a level on what it is shared with holds it there.
    done(alice.ask("PUT", &format!("/permissions/{project}/bob?role=User")));
    for (subject, kind) in [("P", "ProjectItem"), (project.as_str(), "ProjectItem"), (lab.as_str(), "NamespaceItem")] {
        let entity = done(alice.ask("PUT", &format!("/permissions/{id}/{subject}?userType={kind}&role=Editor")));
        assert_eq!((&entity["userType"], &entity["permission"]), (&kind.into(), &"Read, Write, Execute".into()));
        let listed = done(alice.get(&format!("/permissions/{id}/users?userType={kind}")));
        assert_eq!(listed.as_array().unwrap().len(), 1, "{kind}");
    }
    assert_eq!(bob.get(&format!("/permissions/{id}/bob")).text(), "Read, Execute");
    assert_eq!(alice.get(&format!("/permissions/{id}/P?userType=ProjectItem")).text(), "Read, Write, Execute");
    assert_eq!(done(bob.get("/permissions/resources/Service"))[0]["permission"], "Read, Execute");
    // Two of one name are told apart by id.
    done(alice.send("POST", "/project", &json!({"name": "P", "bucketName": "c"})));
    let query = "userType=ProjectItem&role=Guest";
    assert_eq!(alice.ask("PUT", &format!("/permissions/{id}/P?{query}")).status(), 400);
    assert_eq!(bob.ask("PUT", &format!("/permissions/{id}/P?{query}")).status(), 403);
    assert_eq!(alice.ask("PUT", &format!("/permissions/{id}/P?userType=WorkflowItem&role=Guest")).status(), 404);
    assert_eq!(
        alice.ask("PUT", &format!("/permissions/{id}/{project}?userType=WorkspaceItem&role=Guest")).status(),
        404
    );
    let owner = alice.ask("PUT", &format!("/permissions/{id}/{project}?userType=ProjectItem&role=Owner"));
    assert_eq!(owner.status(), 400);
    // About somebody else only administrators of the platform ask for lists.
    let me = text(&done(bob.get("/user"))["id"]);
    assert_eq!(bob.get(&format!("/permissions/resources/Service?userId={me}")).status(), 200);
    assert_eq!(alice.get(&format!("/permissions/resources/Service?userId={me}")).status(), 403);
    assert_eq!(names(&done(olga.get(&format!("/permissions/resources/Service?userId={me}")))), ["tool"]);
    // What goes takes what it gave along.
    done(alice.ask("DELETE", &format!("/project/{project}")));
    assert_eq!(bob.get(&format!("/permissions/{id}/bob")).text(), "None");
    assert_eq!(done(alice.get(&format!("/permissions/{id}/users?userType=ProjectItem"))), json!([]));
}

#[test]
fn nobody_takes_the_name_of_what_belongs_to_others_nor_learns_it() {
    let gateway = house();
    let [alice, bob] = ["alice", "bob"].map(|name| Who::of(&gateway, name));
    let lab = text(&done(alice.ask("POST", "/workspace/lab"))["id"]);
    let own = text(&alice.make(&json!({"name": "data", "labels": ["Dataset"]}))["id"]);
    // A label, and a name, is what its maker likes.
    bob.make(&json!({"name": "lab", "labels": ["Workspace"]}));
    let plan = text(&bob.make(&json!({"name": "plan", "labels": ["Project"]}))["id"]);
    let shared = done(alice.ask("PUT", &format!("/permissions/{own}/lab?userType=WorkspaceItem&role=Guest")));
    assert_eq!((text(&shared["id"]), text(&shared["userId"])), (lab.clone(), "lab".to_owned()));
    done(alice.ask("DELETE", &format!("/workspace/{lab}")));
    for (kind, name) in [("WorkspaceItem", "lab"), ("ProjectItem", "plan")] {
        let refused = alice.ask("PUT", &format!("/permissions/{own}/{name}?userType={kind}&role=Editor"));
        assert_eq!(refused.status(), 404, "{kind} {}", refused.text());
    }
    // By id it can be shared with; what it is called is told to who holds something on it.
    let entry = format!("/permissions/{own}/{plan}?userType=ProjectItem&role=Guest");
    assert_eq!(text(&done(alice.ask("PUT", &entry))["userId"]), plan);
    let list = format!("/permissions/{own}/users?userType=ProjectItem");
    assert_eq!(text(&done(alice.get(&list))[0]["userId"]), plan);
    let accessors = format!("/v2/permissions/{own}/access/Project");
    assert_eq!(names(&done(alice.get(&accessors))), [plan.as_str()]);
    done(bob.ask("PUT", &format!("/permissions/{plan}/alice?userType=User&role=Guest")));
    assert_eq!(text(&done(alice.get(&list))[0]["userId"]), "plan");
    assert_eq!(names(&done(alice.get(&accessors))), ["plan"]);
    // A workspace never has a name that reads as an id, which may be that of one that is gone.
    let mine = text(&done(bob.ask("POST", "/workspace/mine"))["id"]);
    let renamed = bob.send("PUT", &format!("/v2/resource/{mine}"), &json!({ "name": lab }));
    assert!((400..500).contains(&renamed.status()), "{}", renamed.text());
    assert_eq!(bob.get(&format!("/workspace/{lab}")).status(), 404);
}

#[test]
fn files_are_none_and_what_is_asked_of_them_is_not_implemented() {
    let gateway = house();
    let alice = Who::of(&gateway, "alice");
    assert_eq!(done(alice.get("/files")), json!([]));
    for (method, path) in [
        ("GET", "/files/Carta/support"),
        ("GET", "/files/Carta/list?path=x"),
        ("GET", "/files/Carta/file/1"),
        ("POST", "/files/Carta"),
        ("PATCH", "/files/Carta/file/1"),
        ("DELETE", "/files/Carta/file/1"),
    ] {
        let response = alice.ask(method, path);
        assert_eq!((response.status(), response.problem()), (501, Some("not-implemented")), "{method} {path}");
    }
    assert_eq!(gateway.rest("GET", "/files").send().status(), 401);
}

#[test]
fn records_outlive_a_restart() {
    let gateway = house();
    let alice = Who::of(&gateway, "alice");
    let id = text(&alice.make(&json!({"name": "kept", "labels": ["Dataset"], "props": {"x": 1}}))["id"]);
    let bob = text(&done(Who::of(&gateway, "bob").get("/user"))["id"]);
    let set = json!({"user": {"read": true}, "shared": {"admin": true}, "private": {"execute": true}});
    let kept = done(alice.send("PUT", &format!("/v2/permissions/{bob}/{id}"), &set));
    gateway.kill();
    gateway.serve();
    assert_eq!(done(alice.get(&format!("/v2/resource/{id}")))["props"], json!({"x": 1}));
    assert_eq!(done(alice.get(&format!("/v2/permissions/{bob}/{id}/direct"))), kept);
    assert_eq!(names(&done(Who::of(&gateway, "bob").get("/v2/permissions/self/resources/Dataset"))), ["kept"]);
}
