use std::time::Duration;

use http::Method;
use uuid::Uuid;

use super::counts::MOST_OF_USER;
use super::entry::LONGEST;
use super::ring::cut;
use super::*;
use crate::policy::{Levels, ResourceId};

fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

fn happened<'a>(id: &'a RequestId, name: &'a Name) -> Happened<'a> {
    Happened {
        id,
        at: "2026-11-22T10:00:00Z".parse().unwrap(),
        user: Some(user(1)),
        service: Some(ResourceId(Uuid::from_u128(9))),
        operation: None,
        method: &Method::GET,
        path: "/a/b/c",
        need: Some(Levels::EXECUTE),
        name,
        permitted: Some(true),
        problem: None,
        status: 200,
        revision: 7,
        took: Duration::from_millis(1),
        upstream: None,
        refused: None,
    }
}

fn refused<'a>(id: &'a RequestId, name: &'a Name) -> Happened<'a> {
    let said = Refused::of("no", None);
    Happened {
        permitted: Some(false),
        problem: Some(&Kind::PERMISSION_DENIED),
        status: 403,
        refused: Some(Arc::new(said)),
        ..happened(id, name)
    }
}

#[test]
fn what_happened_is_found_by_its_id_until_newer_requests_take_its_place() {
    let record = Record::default();
    let (first, name) = (RequestId::mint(), Name::of(&["a", "b"]));
    record.note(&happened(&first, &name));
    let found = record.find(&first).unwrap();
    assert_eq!((found.path.as_str(), found.status, found.revision), ("/a/b/c", 200, 7));
    assert_eq!(found.name.keys().collect::<Vec<_>>(), ["a", "b"]);
    for _ in 1..ENTRIES {
        record.note(&happened(&RequestId::mint(), &name));
    }
    assert!(record.find(&first).is_some());
    record.note(&happened(&RequestId::mint(), &name));
    assert!(record.find(&first).is_none());
    assert!(record.find(&RequestId::mint()).is_none());
}

#[test]
fn who_sends_no_credential_pushes_out_nobody_who_did() {
    let record = Record::default();
    let (mine, name) = (RequestId::mint(), Name::default());
    record.note(&happened(&mine, &name));
    for _ in 0..=ENTRIES {
        let id = RequestId::mint();
        record.note(&Happened { user: None, ..refused(&id, &name) });
    }
    assert!(record.find(&mine).is_some());
    assert!(record.drain().refusals.is_empty(), "nor fills the store");
}

#[test]
fn a_path_is_cut_between_characters_and_a_long_name_is_left_out() {
    let record = Record::default();
    let (id, name) = (RequestId::mint(), Name::of(&["a", &"b".repeat(LONGEST)]));
    let path = format!("/{}", "é".repeat(LONGEST));
    record.note(&Happened { path: &path, ..happened(&id, &name) });
    let found = record.find(&id).unwrap();
    assert_eq!(found.path.len(), LONGEST - 1);
    assert_eq!(found.name.pattern(), None);
}

#[test]
fn what_grants_said_is_counted_by_day_user_service_operation_and_name() {
    let record = Record::default();
    let names = [Name::of(&["a", "b"]), Name::of(&["a", "b", "c"])];
    let id = RequestId::mint();
    for (name, permitted) in [(0, true), (0, true), (0, false), (1, true)] {
        record.note(&Happened { permitted: Some(permitted), ..happened(&id, &names[name]) });
    }
    record.note(&Happened { user: Some(user(2)), ..happened(&id, &names[0]) });
    record.note(&Happened { permitted: None, need: None, ..happened(&id, &names[0]) });
    let mut counts = record.drain().counts;
    counts.sort_by_key(|counted| (counted.user, counted.name.keys().count()));
    let told: Vec<_> = counts.iter().map(|counted| (counted.user, counted.allowed, counted.refused)).collect();
    assert_eq!(told, [(user(1), 2, 1), (user(1), 1, 0), (user(2), 1, 0)]);
    assert_eq!(counts[0].day, 20_779);
    assert!(record.drain().counts.is_empty(), "a drain takes them");
}

#[test]
fn more_names_than_are_kept_apart_are_counted_together() {
    let record = Record::default();
    let id = RequestId::mint();
    for number in 0..100 {
        let name = Name::of(&["a", "b", &number.to_string()]);
        record.note(&happened(&id, &name));
        record.note(&happened(&id, &name));
    }
    let counts = record.drain().counts;
    assert_eq!(counts.len(), 65);
    let together: Vec<_> = counts.iter().filter(|counted| counted.name.pattern().is_none()).collect();
    assert_eq!((together.len(), together[0].allowed), (1, 72));
}

#[test]
fn one_user_does_not_fill_what_waits_for_the_store() {
    let record = Record::default();
    let name = Name::of(&["a", "b"]);
    for _ in 0..100 {
        record.note(&refused(&RequestId::mint(), &name));
    }
    let id = RequestId::mint();
    record.note(&Happened { user: Some(user(2)), ..refused(&id, &name) });
    let drained = record.drain();
    assert_eq!((drained.refusals.len(), drained.dropped), (65, 36));
    assert_eq!(drained.refusals.last().unwrap().refused.as_ref().unwrap().detail(), "no");
}

#[test]
fn an_answer_that_breaks_off_is_told_of() {
    let record = Record::default();
    let (id, name) = (RequestId::mint(), Name::default());
    record.note(&happened(&id, &name));
    record.break_off(&id, &Kind::PERMISSION_DENIED);
    assert_eq!(record.find(&id).unwrap().problem, Some(&Kind::PERMISSION_DENIED));
}

#[test]
fn the_records_of_all_workers_are_one_to_who_asks() {
    let records = Records::default();
    let workers = [Arc::new(Record::default()), Arc::new(Record::default())];
    workers.iter().for_each(|record| records.add(record));
    let (id, name) = (RequestId::mint(), Name::of(&["a", "b"]));
    workers[1].note(&happened(&id, &name));
    assert!(records.find(&id).is_some());
    assert_eq!(records.drain().counts.len(), 1);
}

#[test]
fn what_a_refusal_said_is_kept_only_as_far_as_it_is_short() {
    let dots = "%2E".repeat(16 * 1024);
    let grants = vec![serde_json::json!({"resource": "a.b.c.d.e.f.g.h"}); 200];
    let few = Refused::of("no", Some(serde_json::json!({"need": "read", "beaten": grants})));
    assert_eq!(few.why(), Some(serde_json::json!({"need": "read", "shortened": true})));
    let said = Refused::of(&format!("`{dots}` é"), Some(serde_json::json!({"resource": dots})));
    assert_eq!((said.detail().len(), said.why()), (ring::LONGEST_DETAIL, None));
    assert_eq!(cut("aé", 2), "a");
}

#[test]
fn the_refusals_of_a_ring_are_within_a_budget_of_bytes_and_the_newest_are_kept() {
    let record = Record::default();
    let name = Name::of(&["a"]);
    let why = serde_json::json!({"reason": "x".repeat(ring::LONGEST_WHY - 100)});
    let said = Arc::new(Refused::of(&"y".repeat(ring::LONGEST_DETAIL), Some(why)));
    let ids: Vec<RequestId> = (0..2 * ENTRIES).map(|_| RequestId::mint()).collect();
    for id in &ids {
        record.note(&Happened { refused: Some(said.clone()), ..refused(id, &name) });
    }
    let kept: Vec<bool> = ids[ENTRIES..].iter().map(|id| record.find(id).unwrap().refused.is_some()).collect();
    let count = kept.iter().filter(|kept| **kept).count();
    let each = said.detail().len() + ring::LONGEST_WHY;
    assert!(count * each <= 2 * ring::REFUSED_BYTES && count * each > ring::REFUSED_BYTES / 2, "{count}");
    assert!(kept[ENTRIES - count..].iter().all(|kept| *kept), "the newest");
    // Entries that said nothing take the places, and give the room back.
    for _ in 0..ENTRIES {
        record.note(&happened(&RequestId::mint(), &name));
    }
    let id = RequestId::mint();
    record.note(&Happened { refused: Some(said), ..refused(&id, &name) });
    assert!(record.find(&id).unwrap().refused.is_some());
}

#[test]
fn one_user_leaves_no_other_uncounted() {
    let record = Record::default();
    let (id, name) = (RequestId::mint(), Name::of(&["a", "b"]));
    for number in 0..2 * u128::from(MOST_OF_USER) {
        let service = Some(ResourceId(Uuid::from_u128(number)));
        record.note(&Happened { service, ..happened(&id, &name) });
    }
    record.note(&Happened { user: Some(user(2)), ..happened(&id, &name) });
    let drained = record.drain();
    let of = |one| drained.counts.iter().filter(|counted| counted.user == user(one)).count();
    assert_eq!((of(1), of(2)), (1024, 1));
    assert_eq!(drained.uncounted, 1024);
}

#[test]
fn all_that_was_noted_is_found_as_it_was() {
    let record = Record::default();
    let operation: Arc<str> = "summary".into();
    let (id, name) = (RequestId::mint(), Name::of(&["a", "b"]));
    let whole = Happened {
        at: "2026-11-22T10:00:00.123456789Z".parse().unwrap(),
        operation: Some(&operation),
        method: &Method::PATCH,
        path: &"/ä".repeat(60),
        upstream: Some(Duration::from_micros(17)),
        took: Duration::from_nanos(4_000_900),
        ..refused(&id, &name)
    };
    record.note(&whole);
    let found = record.find(&id).unwrap();
    assert_eq!((found.id, found.at), (id, "2026-11-22T10:00:00.123456Z".parse().unwrap()));
    assert_eq!((found.user, found.service, found.operation), (whole.user, whole.service, Some(operation.clone())));
    assert_eq!((found.method, found.path, found.need), (Method::PATCH, whole.path.to_owned(), whole.need));
    assert_eq!((found.name, found.permitted, found.problem), (name.clone(), whole.permitted, whole.problem));
    assert_eq!((found.status, found.revision, found.took), (403, 7, Duration::from_micros(4000)));
    assert_eq!((found.upstream, found.refused.is_some()), (whole.upstream, true));
    // One that has less is not taken for it, in the same place or in another.
    let (id, other) = (RequestId::mint(), Name::default());
    record.note(&Happened { user: None, service: None, need: None, permitted: None, ..happened(&id, &other) });
    let found = record.find(&id).unwrap();
    assert_eq!((found.user, found.service, found.operation, found.need), (None, None, None, None));
    assert_eq!((found.method, found.permitted, found.problem, found.upstream), (Method::GET, None, None, None));
    assert!(found.refused.is_none() && found.name.pattern().is_none());
}

#[test]
fn a_method_is_kept_whatever_it_is() {
    let record = Record::default();
    let name = Name::default();
    for method in ["GET", "HEAD", "TRACE", "CONNECT", "PROPFIND", "A-METHOD-OF-NOBODY-ELSE", "POST"] {
        let (id, method) = (RequestId::mint(), Method::from_bytes(method.as_bytes()).unwrap());
        record.note(&Happened { method: &method, ..happened(&id, &name) });
        assert_eq!(record.find(&id).unwrap().method, method);
        record.break_off(&id, &Kind::PERMISSION_DENIED);
        assert_eq!(record.find(&id).unwrap().method, method);
    }
}

#[test]
fn a_place_that_is_taken_by_another_tells_nothing_of_who_had_it_before() {
    let record = Record::default();
    let (long, name) = ("x".repeat(200), Name::of(&["a", "b"]));
    for _ in 0..ENTRIES {
        record.note(&Happened { path: &long, ..refused(&RequestId::mint(), &name) });
    }
    let id = RequestId::mint();
    record.note(&happened(&id, &name));
    let found = record.find(&id).unwrap();
    assert_eq!((found.path.as_str(), found.permitted, found.problem), ("/a/b/c", Some(true), None));
    assert!(found.refused.is_none());
}

/// By more names than are known lately, so that most are made anew again and again.
#[test]
fn counts_are_those_of_a_plain_map() {
    let record = Record::default();
    let operations: Vec<Arc<str>> = (0..3).map(|number| format!("o{number}").into()).collect();
    let names: Vec<Name> = (0..60).map(|number| Name::of(&["a", &number.to_string()])).collect();
    let mut plain = std::collections::BTreeMap::<_, (u64, u64)>::new();
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let id = RequestId::mint();
    for _ in 0..50_000 {
        let who = u128::from(draw(9));
        let (service, operation, name) = (u128::from(draw(4)), draw(4) as usize, draw(60) as usize);
        let (need, permitted, day) = ([Levels::READ, Levels::EXECUTE][draw(2) as usize], draw(3) > 0, draw(2));
        let at = jiff::Timestamp::from_second(i64::try_from(day).unwrap() * 24 * 60 * 60 + 5).unwrap();
        let count = plain.entry((who, service, operation, name, need.bits(), day)).or_default();
        if permitted {
            count.0 += 1
        } else {
            count.1 += 1
        }
        record.note(&Happened {
            at,
            user: Some(user(who)),
            service: Some(ResourceId(Uuid::from_u128(service))),
            operation: operations.get(operation),
            need: Some(need),
            permitted: Some(permitted),
            ..happened(&id, &names[name])
        });
    }
    let drained = record.drain();
    // Nine users have 1,920 combinations each; beyond their 1,024 they are counted on any resource, of which they have 32.
    let (mut exact, mut together) = (0, 0);
    for counted in &drained.counts {
        let (allowed, refused) = (counted.allowed, counted.refused);
        if counted.name.pattern().is_none() {
            together += allowed + refused;
            continue;
        }
        let place = |operation: &Arc<str>| operations.iter().position(|known| known == operation).unwrap();
        let operation = counted.operation.as_ref().map_or(3, place);
        let name = names.iter().position(|name| *name == counted.name).unwrap();
        let day = u64::try_from(counted.day).unwrap();
        let key = (counted.user.0.as_u128(), counted.service.0.as_u128(), operation, name, counted.need.bits(), day);
        assert_eq!(plain.remove(&key), Some((allowed, refused)), "once, and as often as it was called");
        exact += allowed + refused;
    }
    let rest: u64 = plain.values().map(|(allowed, refused)| allowed + refused).sum();
    assert_eq!((exact + together + drained.uncounted, together + drained.uncounted), (50_000, rest));
    assert!(exact > 20_000 && together + drained.uncounted > 0, "{exact} {together} {}", drained.uncounted);
}

#[test]
fn each_drain_takes_what_came_since_the_last_whichever_tables_it_was_counted_in() {
    let record = Record::default();
    let (id, name) = (RequestId::mint(), Name::of(&["a", "b"]));
    for round in 1..6 {
        // More and fewer users in turn, each as often as the round says.
        let users = [3, 200, 0, 50, 1][round - 1];
        for who in 0..users {
            (0..round).for_each(|_| record.note(&Happened { user: Some(user(who)), ..happened(&id, &name) }));
        }
        let counts = record.drain().counts;
        assert_eq!(counts.len(), usize::try_from(users).unwrap());
        assert!(counts.iter().all(|counted| (counted.allowed, counted.refused) == (round as u64, 0)));
    }
    // Nor does a bound of one period weigh on the next.
    for period in 0..3 {
        for number in 0..u128::from(MOST_OF_USER) + 1 {
            let service = Some(ResourceId(Uuid::from_u128(number + period)));
            record.note(&Happened { service, ..happened(&id, &name) });
        }
        let drained = record.drain();
        assert_eq!((drained.counts.len(), drained.uncounted), (1024, 1));
    }
}
