//! Lists in pages: `docs/API.md` §1.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::who::{done, text};
use support::{Gateway, Who};

/// The entries of all pages of this size, and how many pages there were.
fn pages(who: &Who<'_>, list: &str, limit: usize) -> (Vec<Value>, usize) {
    let joint = if list.contains('?') { '&' } else { '?' };
    let mut next = Some(format!("{list}{joint}limit={limit}"));
    let (mut seen, mut count) = (Vec::new(), 0);
    while let Some(target) = next {
        let page = who.get(&target);
        assert_eq!(page.status(), 200, "{target}: {}", page.text());
        let entries = page.json().as_array().unwrap().clone();
        assert!(entries.len() <= limit, "{target}: {} entries", entries.len());
        seen.extend(entries);
        count += 1;
        let link = |link: &str| link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0.to_owned();
        next = page.header("link").map(link);
        assert!(count < 50, "{list} has an end");
    }
    (seen, count)
}

#[test]
fn every_list_that_grows_comes_whole_and_in_pages() {
    let gateway = Gateway::builder().user("alice", &[]).user("bob", &[]).user("carol", &[]).start();
    let [alice, bob] = ["alice", "bob"].map(|name| Who::of(&gateway, name));
    for number in 0..3 {
        done(alice.ask("POST", &format!("/workspace/w%20{number}")));
        done(alice.send("POST", "/project", &json!({"name": format!("p{number}"), "bucketName": "b"})));
        alice.make(&json!({"name": format!("d{number}"), "labels": ["a & b", format!("l{number}")]}));
        let token = json!({"name": format!("t{number}"), "allowedEndpoints": ["GET /**"]});
        done(alice.send("POST", "/v2/auth/apitoken/self", &token));
        let header = format!("secret-s{number}");
        gateway.rest("PUT", "/secret").token(&alice.token).header(&header, "v").body("").expect(200);
    }
    done(alice.ask("POST", "/user/group/team"));
    for user in ["bob", "carol"] {
        done(alice.ask("POST", &format!("/user/group/team/{user}")));
        done(alice.ask("PUT", &format!("/workspace/w%201/permissions/user/{user}?role=Guest")));
    }
    let id = text(&done(alice.get("/workspace/w%201"))["id"]);
    for list in [
        "/user/users".to_owned(),
        "/user/group/team".to_owned(),
        "/permissions/resources/Project".to_owned(),
        "/permissions/resources/Workspace?userId=alice".to_owned(),
        format!("/permissions/{id}/users?userType=User"),
        "/v2/permissions/self/labels".to_owned(),
        "/v2/permissions/self/resources/a%20%26%20b".to_owned(),
        format!("/v2/permissions/{id}/access/User"),
        "/v2/auth/apitoken/self".to_owned(),
        "/secret".to_owned(),
        "/workspace".to_owned(),
        "/workspace/w%201/permissions/users".to_owned(),
    ] {
        let whole = alice.get(&list);
        assert_eq!((whole.status(), whole.header("link")), (200, None), "{list}");
        let whole = whole.json().as_array().unwrap().clone();
        assert!(whole.len() > 1, "{list} has {} entries", whole.len());
        for limit in [1, 2, whole.len(), 100] {
            assert_eq!(pages(&alice, &list, limit), (whole.clone(), whole.len().div_ceil(limit)), "{list} by {limit}");
        }
        let joint = if list.contains('?') { '&' } else { '?' };
        assert_eq!(
            done(alice.get(&format!("{list}{joint}offset=1&limit="))),
            Value::from(whole[1..].to_vec()),
            "{list} from the second on"
        );
        assert_eq!(done(alice.get(&format!("{list}{joint}offset=99&limit=1"))), json!([]), "{list} beyond its end");
        for wrong in ["limit=0", "limit=x", "offset=-1", "limit=1&limit=2"] {
            assert_eq!(alice.get(&format!("{list}{joint}{wrong}")).status(), 400, "{list} {wrong}");
        }
    }
    // Whoever may not read the list is told so, whatever else is wrong.
    for (list, status) in [
        (format!("/permissions/{id}/users?limit=0"), 403),
        (format!("/v2/permissions/{id}/access/User?limit=0"), 403),
        (format!("/v2/permissions/{id}/labels?limit=0"), 403),
        (format!("/v2/auth/apitoken/{}?limit=0", alice.id), 403),
        ("/workspace/none/permissions/users?limit=0".to_owned(), 404),
    ] {
        assert_eq!(bob.get(&list).status(), status, "{list}");
    }
}
