//! Sequences of changes over both versions of the permissions, on a real gateway, beside the rules of `docs/API.md` §7
//! followed word by word.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use support::{Gateway, Response};

const FLAGS: [&str; 4] = ["execute", "write", "read", "admin"];
const ADMIN: u8 = 8;
const ALL: u8 = 15;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Where the things of the model stand: four users, two groups, four records, a namespace with a service, a project with
/// a connection.
const GROUPS: [usize; 2] = [4, 5];
const RECORDS: [usize; 4] = [6, 7, 8, 9];
const NAMESPACE: usize = 10;
const SERVICE: usize = 11;
const PROJECT: usize = 12;
const CONNECTION: usize = 13;
const THINGS: usize = 14;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tiers {
    user: u8,
    private: u8,
    shared: u8,
    refused: bool,
}

/// The rules, slowly.
struct Model {
    given: BTreeMap<(usize, usize), Tiers>,
    owners: BTreeMap<usize, usize>,
    members: BTreeSet<(usize, usize)>,
}

impl Model {
    fn new() -> Self {
        let mut owners: BTreeMap<usize, usize> = (0..USERS.len()).map(|user| (user, user)).collect();
        owners.extend((GROUPS[0]..THINGS).map(|thing| (thing, 0)));
        Self { given: BTreeMap::new(), owners, members: BTreeSet::new() }
    }

    /// What the user holds there; a question that is being asked counts as no.
    fn resolved(&self, user: usize, to: usize, asking: &[usize]) -> u8 {
        if asking.contains(&to) {
            return 0;
        }
        // Nobody is another node of their own.
        if self.owners[&to] == user && to != user {
            return ALL;
        }
        let own = self.nearest(user, to, |tiers| tiers.user);
        if own.is_some_and(|(_, tiers)| tiers.refused) {
            return 0;
        }
        let asking = [asking, &[to]].concat();
        let groups = GROUPS.into_iter().filter(|group| self.members.contains(&(*group, user)));
        let mut found: Vec<(usize, u8)> = Vec::new();
        let mut refusal = None;
        for group in groups {
            match self.nearest(group, to, |tiers| tiers.shared) {
                Some((depth, tiers)) if tiers.refused => refusal = refusal.max(Some(depth)),
                Some((depth, tiers)) => found.push((depth, tiers.shared)),
                None => {}
            }
        }
        for node in 0..THINGS {
            if !GROUPS.contains(&node)
                && let Some((depth, tiers)) = self.nearest(node, to, |tiers| tiers.shared)
            {
                found.push((depth, tiers.shared & self.resolved(user, node, &asking)));
            }
            if let Some((depth, tiers)) = self.nearest(node, to, |tiers| tiers.private)
                && self.resolved(user, node, &asking) & ADMIN != 0
            {
                found.push((depth, tiers.private));
            }
        }
        found.retain(|(depth, _)| refusal.is_none_or(|refusal| *depth > refusal));
        found
            .extend(own.filter(|(depth, _)| refusal.is_none_or(|refusal| *depth >= refusal)).map(|(d, t)| (d, t.user)));
        found.into_iter().fold(0, |all, (_, flags)| all | flags)
    }

    /// The entry on it or, where there is none, on the namespace or project that it is in; of what gives nothing, nothing.
    fn nearest(&self, from: usize, to: usize, tier: impl Fn(&Tiers) -> u8) -> Option<(usize, Tiers)> {
        let there = match to {
            SERVICE => vec![(2, SERVICE), (1, NAMESPACE)],
            CONNECTION => vec![(2, CONNECTION), (1, PROJECT)],
            _ => vec![(1, to)],
        };
        let mut entries = there.into_iter().filter_map(|(depth, to)| Some((depth, *self.given.get(&(from, to))?)));
        entries.next().filter(|(_, tiers)| tiers.refused || tier(tiers) != 0)
    }

    fn give(&mut self, from: usize, to: usize, tiers: Tiers) {
        self.given.insert((from, to), tiers);
    }
}

/// A generator of numbers that are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    /// Some flags, often none.
    fn flags(&mut self) -> u8 {
        if self.roll(2) == 0 { 0 } else { self.roll(16) as u8 }
    }
}

struct World {
    gateway: Gateway,
    tokens: Vec<String>,
    ids: Vec<String>,
}

impl World {
    fn open() -> Self {
        let mut builder = Gateway::builder();
        for name in USERS {
            builder = builder.user(name, &[]);
        }
        let gateway = builder.start();
        let tokens: Vec<String> = USERS.iter().map(|name| gateway.token(name)).collect();
        let mut world = Self { gateway, tokens, ids: Vec::new() };
        for user in 0..USERS.len() {
            let id = world.ask(user, "GET", "/user", None).json()["id"].as_str().unwrap().to_owned();
            world.ids.push(id);
        }
        for name in ["one", "two"] {
            done(&world.ask(0, "POST", &format!("/user/group/{name}"), None));
        }
        let groups = world.ask(0, "GET", "/v2/permissions/self/resources/UserGroup", None).json();
        world.ids.extend(groups.as_array().unwrap().iter().map(|group| group["id"].as_str().unwrap().to_owned()));
        for number in RECORDS {
            let body = json!({"name": format!("record-{number}"), "labels": ["Record"]});
            let made = world.ask(0, "POST", "/v2/resource/generic", Some(&body)).json();
            world.ids.push(made["id"].as_str().unwrap().to_owned());
        }
        done(&world.ask(0, "POST", "/service/reserve/lab", None));
        done(&world.ask(0, "POST", "/service/register/lab/tool?baseUrl=http://localhost", None));
        for target in ["lab", "lab/tool"] {
            let details = world.ask(0, "GET", &format!("/service/details/{target}"), None).json();
            world.ids.push(details["id"].as_str().unwrap().to_owned());
        }
        let project = world.ask(0, "POST", "/project", Some(&json!({"name": "p", "bucketName": "b"}))).json();
        world.ids.push(project["id"].as_str().unwrap().to_owned());
        let place = format!("/project/connection/{}", world.ids[PROJECT]);
        let made = world.ask(0, "POST", &place, Some(&json!({"name": "c", "backend": "S3"}))).json();
        world.ids.push(made["id"].as_str().unwrap().to_owned());
        assert_eq!(world.ids.len(), THINGS);
        world
    }

    fn ask(&self, user: usize, method: &str, target: &str, body: Option<&Value>) -> Response {
        let ask = self.gateway.rest(method, target).token(&self.tokens[user]);
        match body {
            Some(body) => ask.header("content-type", "application/json").body(body.to_string()).send(),
            None if method == "GET" => ask.send(),
            None => ask.body("").send(),
        }
    }
}

fn done(response: &Response) {
    assert_eq!(response.status(), 200, "{}", response.text());
}

fn written(flags: u8) -> Value {
    let flags = FLAGS.iter().enumerate().map(|(bit, name)| ((*name).to_owned(), Value::from(flags & (1 << bit) != 0)));
    Value::Object(flags.collect::<Map<_, _>>())
}

fn read(flags: &Value) -> u8 {
    FLAGS.iter().enumerate().map(|(bit, name)| u8::from(flags[name].as_bool().unwrap()) << bit).sum()
}

fn run(seed: u64, steps: usize) {
    let (world, mut model, mut dice) = (World::open(), Model::new(), Dice(seed));
    for step in 0..steps {
        let to = dice.pick(&[0, 1, 2, 4, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13]);
        let from = dice.pick(&[0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        let owner = model.owners[&to];
        let path = format!("/v2/permissions/{}/{}", world.ids[from], world.ids[to]);
        let kind = dice.roll(16);
        let what = format!("seed {seed}, step {step}: {kind} from {from} to {to}");
        if kind == 0 {
            let (group, user) = (dice.roll(2), 1 + dice.roll(3));
            let place = format!("/user/group/{}/{}", ["one", "two"][group], USERS[user]);
            let member = (GROUPS[group], user);
            let joins = model.members.insert(member);
            if !joins {
                model.members.remove(&member);
            }
            done(&world.ask(0, if joins { "POST" } else { "DELETE" }, &place, None));
        } else if from == to {
            // Nothing is given to itself.
            continue;
        } else if from == owner {
            // What the owner passes on is the owner's to set; the rest of that entry is the ownership.
            let body = json!({
                "user": {"owner": true}, "private": written(dice.flags()), "shared": written(dice.flags()),
            });
            done(&world.ask(owner, "PUT", &path, Some(&body)));
            let given = model.given.get(&(from, to)).copied().unwrap_or_default();
            let (private, shared) = (read(&body["private"]), read(&body["shared"]));
            model.give(from, to, Tiers { private, shared, ..given });
        } else if kind == 1 && from < USERS.len() && to >= RECORDS[0] {
            let body = json!({"user": {"owner": true}});
            done(&world.ask(owner, "PUT", &path, Some(&body)));
            model.owners.insert(to, from);
            model.given.remove(&(from, to));
            model.give(owner, to, Tiers { user: ALL, ..model.given.get(&(owner, to)).copied().unwrap_or_default() });
        } else if kind <= 3 {
            done(&world.ask(owner, "DELETE", &path, None));
            model.given.remove(&(from, to));
        } else if kind <= 5 && from < RECORDS[0] {
            let (role, flags) = dice.pick(&[("None", 0), ("Guest", 4), ("User", 5), ("Editor", 7)]);
            let word = if from < USERS.len() { "User" } else { "UserGroup" };
            let path = format!("/permissions/{}/{}?userType={word}&role={role}", world.ids[to], world.ids[from]);
            done(&world.ask(owner, "PUT", &path, None));
            let shared = if from < USERS.len() { 0 } else { flags };
            model.give(from, to, Tiers { user: flags, private: 0, shared, refused: flags == 0 });
        } else {
            let tiers = Tiers { user: dice.flags(), private: dice.flags(), shared: dice.flags(), refused: false };
            let body = json!({
                "user": written(tiers.user), "private": written(tiers.private), "shared": written(tiers.shared),
            });
            let kept = world.ask(owner, "PUT", &path, Some(&body));
            done(&kept);
            let refused = model.given.get(&(from, to)).is_some_and(|given| given.refused);
            if tiers != Tiers::default() {
                model.give(from, to, tiers);
            } else if !refused {
                model.given.remove(&(from, to));
            }
        }
        if kind > 0 {
            let direct = world.ask(model.owners[&to], "GET", &format!("{path}/direct"), None).json();
            let told = ["user", "private", "shared"].map(|tier| read(&direct[tier]));
            let given = model.given.get(&(from, to)).copied().unwrap_or_default();
            let user = if from == model.owners[&to] { ALL } else { given.user };
            assert_eq!(told, [user, given.private, given.shared], "{what}");
        }
        if step % 6 == 5 || step + 1 == steps {
            for (user, name) in USERS.into_iter().enumerate() {
                for to in (0..THINGS).filter(|to| *to != user) {
                    let told = world.ask(user, "GET", &format!("/v2/permissions/self/{}", world.ids[to]), None).json();
                    let expected = (model.resolved(user, to, &[]), model.owners[&to] == user);
                    let told = (read(&told), told["owner"].as_bool().unwrap());
                    assert_eq!(told, expected, "{what}: {name} on {to}\n{:#?}", model.given);
                }
            }
        }
    }
}

#[test]
fn what_is_held_is_what_the_rules_say_after_any_changes() {
    for seed in [1, 2, 24] {
        run(seed, 60);
    }
}
