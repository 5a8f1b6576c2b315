//! Records that are kept so that they can be shared.

use carta_gateway::policy::{Levels, ResourceId, Subject, UserId};
use carta_gateway::store::{Item, Key, MOST_CONNECTIONS, MOST_NODE_BYTES, Mutation, Node, NodeKind, Store, StoreError};
use uuid::Uuid;

use crate::fixture::*;

crate::contract![
    a_node_comes_back_as_it_was_made_and_as_it_was_changed,
    a_node_needs_what_it_is_made_in_and_who_makes_it,
    a_workspace_has_its_name_alone,
    a_removal_takes_what_is_in_it_and_what_was_granted_on_and_to_it,
    a_node_is_given_away_and_counts_for_who_made_it,
    grants_are_to_what_is_there_whatever_it_is,
    nobody_keeps_more_nodes_than_their_share,
];

fn node(kind: NodeKind, name: &str, owner: UserId) -> Node {
    Node {
        id: ResourceId(Uuid::new_v4()),
        kind,
        name: name.to_owned(),
        labels: vec!["A, b".to_owned(), "\"ä\"".to_owned()],
        props: r#"{"a":[1,null]}"#.to_owned(),
        owner: Some(owner),
        parent: None,
    }
}

fn connection(project: &Node, name: &str, owner: UserId) -> Node {
    Node { parent: Some(project.id), ..node(NodeKind::Connection, name, owner) }
}

fn create(node: &Node) -> Mutation {
    Mutation::CreateNode(Box::new(node.clone()))
}

fn rename(node: &Node, name: &str) -> Mutation {
    Mutation::UpdateNode { id: node.id, name: Some(name.to_owned()), props: None }
}

async fn known(store: &dyn Store, id: ResourceId) -> Option<Node> {
    match store.item(Key::Node(id)).await.unwrap() {
        Item::Node(node) => Some(*node),
        gone => {
            assert_eq!(gone, Item::Gone(Key::Node(id)));
            None
        }
    }
}

async fn a_node_comes_back_as_it_was_made_and_as_it_was_changed(store: &dyn Store) {
    let ann = made(store, "ann").await;
    for kind in [NodeKind::Generic, NodeKind::Project, NodeKind::Workspace] {
        let made = node(kind, "n", ann);
        let before = *store.revisions().borrow();
        assert_eq!(done(store, create(&made)).await.id, Some(made.id));
        assert_eq!(since(store, before).await.1, [Item::Node(Box::new(made.clone()))]);
        assert!(items(store).await.contains(&Item::Node(Box::new(made.clone()))));
        clashes(store, "node", create(&Node { name: "other".to_owned(), ..made.clone() })).await;
        idle(store, rename(&made, "n")).await;
        done(store, rename(&made, "m")).await;
        let props = r#"{"b":"canary-4e21"}"#.to_owned();
        done(store, Mutation::UpdateNode { id: made.id, name: None, props: Some(props.clone()) }).await;
        assert_eq!(known(store, made.id).await, Some(Node { name: "m".to_owned(), props, ..made.clone() }));
    }
    misses(store, "node", rename(&node(NodeKind::Generic, "n", ann), "m")).await;
    let audit = store.audit(0, usize::MAX).await.unwrap();
    let told = format!("{audit:?}");
    assert!(told.contains("node.create") && told.contains("node.update"), "{told}");
    assert!(!told.contains(CANARY), "what props say is no part of the record");
}

async fn a_node_needs_what_it_is_made_in_and_who_makes_it(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let namespace = reserved(store, "ns", ann).await;
    misses(store, "user", create(&node(NodeKind::Generic, "n", UserId(Uuid::new_v4())))).await;
    refused(store, "owner", create(&Node { owner: None, ..node(NodeKind::Generic, "n", ann) })).await;
    let (project, other) = (node(NodeKind::Project, "p", ann), node(NodeKind::Generic, "g", ann));
    misses(store, "project", create(&connection(&project, "c", ann))).await;
    done(store, create(&project)).await;
    done(store, create(&other)).await;
    misses(store, "project", create(&connection(&other, "c", ann))).await;
    refused(store, "in a project", create(&node(NodeKind::Connection, "c", ann))).await;
    refused(
        store,
        "only a connection",
        create(&Node { parent: Some(project.id), ..node(NodeKind::Generic, "n", ann) }),
    )
    .await;
    clashes(store, "node", create(&Node { id: namespace, ..node(NodeKind::Generic, "n", ann) })).await;
    clashes(store, "node", create(&Node { id: ResourceId(ann.0), ..node(NodeKind::Generic, "n", ann) })).await;
    done(store, create(&connection(&project, "c", ann))).await;
}

async fn a_workspace_has_its_name_alone(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let (one, two) = (node(NodeKind::Workspace, "one", ann), node(NodeKind::Workspace, "two", bob));
    done(store, create(&one)).await;
    done(store, create(&two)).await;
    clashes(store, "workspace", create(&node(NodeKind::Workspace, "one", bob))).await;
    clashes(store, "workspace", rename(&two, "one")).await;
    done(store, create(&node(NodeKind::Generic, "one", bob))).await;
    done(store, create(&node(NodeKind::Project, "one", bob))).await;
    done(store, rename(&one, "three")).await;
    done(store, rename(&two, "one")).await;
    done(store, Mutation::RemoveNode(two.id)).await;
    done(store, create(&node(NodeKind::Workspace, "one", ann))).await;
}

async fn a_removal_takes_what_is_in_it_and_what_was_granted_on_and_to_it(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let (project, other) = (node(NodeKind::Project, "p", ann), node(NodeKind::Generic, "g", ann));
    let inside = connection(&project, "c", ann);
    for node in [&project, &other, &inside] {
        done(store, create(node)).await;
    }
    let on = |node: &Node, subject| carta_gateway::policy::Grant {
        subject,
        pattern: node.pattern(),
        levels: Levels::READ,
        expires: None,
    };
    for row in [on(&project, Subject::Everyone), on(&inside, Subject::Everyone), on(&other, Subject::Everyone)] {
        done(store, put(row)).await;
    }
    let to = |node: &Node| [Subject::Holders(Levels::READ, node.id), Subject::Same(node.id), Subject::Itself(node.id)];
    for subject in to(&project).into_iter().chain(to(&inside)) {
        done(store, put(on(&other, subject))).await;
    }
    let before = *store.revisions().borrow();
    done(store, Mutation::RemoveNode(project.id)).await;
    let (_, changed) = since(store, before).await;
    assert_eq!(changed.len(), 2 + 2 + 6, "{changed:?}");
    assert!(changed.iter().all(|item| matches!(item, Item::Gone(_))), "{changed:?}");
    assert_eq!(grants(store).await, [format!("everyone {} read", other.pattern())]);
    assert_eq!((known(store, project.id).await, known(store, inside.id).await), (None, None));
    misses(store, "node", Mutation::RemoveNode(inside.id)).await;
    misses(store, "resource", put(on(&other, Subject::Same(project.id)))).await;
}

async fn a_node_is_given_away_and_counts_for_who_made_it(store: &dyn Store) {
    let (ann, bob, carol) = (made(store, "ann").await, made(store, "bob").await, made(store, "carol").await);
    let (project, record) = (node(NodeKind::Project, "p", ann), node(NodeKind::Generic, "g", ann));
    let inside = connection(&project, "c", bob);
    for node in [&project, &record, &inside] {
        done(store, create(node)).await;
    }
    let name = |node: &Node| node.pattern();
    let row = |node: &Node, user| carta_gateway::policy::Grant {
        subject: Subject::User(user),
        pattern: name(node),
        levels: Levels::ALL,
        expires: None,
    };
    for (node, owner) in [(&project, ann), (&record, ann), (&inside, bob)] {
        refused(store, "without a grant", put(row(node, owner))).await;
    }
    done(store, put(row(&record, bob))).await;
    let give = |from, to, keep| Mutation::TransferOwner { resource: record.id, from: Some(from), to, keep, at: at(8) };
    refused(store, "another owner", give(bob, carol, None)).await;
    done(store, give(ann, bob, Some(row(&record, ann)))).await;
    assert_eq!(known(store, record.id).await.and_then(|node| node.owner), Some(bob));
    let kept = format!("user:{ann} {} create, read, update, delete, execute, clone, admin", name(&record));
    assert_eq!(grants(store).await, [kept], "the new owner's own grant went");
    idle(store, give(bob, bob, None)).await;
}

async fn grants_are_to_what_is_there_whatever_it_is(store: &dyn Store) {
    let (ann, group) = (made(store, "ann").await, made_group(store, "g").await);
    let record = node(NodeKind::Generic, "g", ann);
    done(store, create(&record)).await;
    for id in [record.id, ResourceId(ann.0), ResourceId(group.0), reserved(store, "ns", ann).await] {
        for subject in [Subject::Holders(Levels::ADMIN, id), Subject::Same(id), Subject::Itself(id)] {
            done(store, put(grant(subject, &["somewhere"], Levels::READ))).await;
        }
    }
    let nothing = ResourceId(Uuid::new_v4());
    misses(store, "resource", put(grant(Subject::Itself(nothing), &["somewhere"], Levels::READ))).await;
    // Everybody owns what stands for them, and who runs a group what stands for that.
    let key = ResourceId(ann.0).key();
    refused(store, "without a grant", put(grant(Subject::User(ann), &[&key], Levels::READ))).await;
}

async fn nobody_keeps_more_nodes_than_their_share(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let project = node(NodeKind::Project, "p", ann);
    done(store, create(&project)).await;
    let connections = (0..MOST_CONNECTIONS).map(|number| create(&connection(&project, &number.to_string(), ann)));
    done(store, Mutation::Batch(connections.collect())).await;
    refused(store, "connections of one project", create(&connection(&project, "more", bob))).await;
    // Bytes count for who made them, whoever writes them.
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
    let full = MOST_NODE_BYTES as usize >> 20;
    let mut last = None;
    for number in 0..full {
        let made = Node { props: large.clone(), ..node(NodeKind::Generic, &number.to_string(), bob) };
        match commit(store, create(&made)).await {
            Ok(_) => last = Some(made),
            Err(StoreError::Full(why)) => {
                assert!(why.contains("bytes of nodes") && number + 1 == full, "{number}: {why}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    let (last, small) = (last.unwrap(), node(NodeKind::Generic, "small", bob));
    done(store, create(&small)).await;
    let grow = Mutation::UpdateNode { id: small.id, name: None, props: Some(large) };
    refused(store, "bytes of nodes", grow.clone()).await;
    done(store, Mutation::RemoveNode(last.id)).await;
    done(store, grow).await;
}
