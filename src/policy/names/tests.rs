use super::*;

#[test]
fn names_whose_hashes_meet_are_told_apart_and_go_one_by_one() {
    let keys = ["a", "b", "c"];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [2, 0, 1]] {
        let mut names = Names::new();
        let nodes = keys.map(|key| names.retain(&Pattern::literal([key]).unwrap()));
        // As if all had one hash, for which chance would take a lifetime: the newest comes first.
        let elsewhere = (nodes[0], "c");
        for (parent, key) in keys.map(|key| (NodeId::ROOT, key)).into_iter().chain([elsewhere]) {
            names.children.insert(names.hash(parent, key), nodes[2]);
        }
        for (node, twin) in [(nodes[2], nodes[1]), (nodes[1], nodes[0])] {
            names.node_mut(node).unwrap().twin = twin;
        }
        let mut left = nodes.map(Some);
        for gone in order {
            assert_eq!(keys.map(|key| names.child(NodeId::ROOT, key)), left, "{order:?}");
            assert_eq!(names.child(elsewhere.0, elsewhere.1), None);
            // What the hash of each leads to is told to those of the others, which chance would have made the same.
            names.release(nodes[gone]);
            left[gone] = None;
            let first = names.children.get(&names.hash(NodeId::ROOT, keys[gone])).copied();
            for key in keys {
                let hash = names.hash(NodeId::ROOT, key);
                match first {
                    Some(first) => names.children.insert(hash, first),
                    None => names.children.remove(&hash),
                };
            }
        }
        assert_eq!((keys.map(|key| names.child(NodeId::ROOT, key)), names.len()), ([None; 3], 1));
    }
}

#[test]
fn new_names_take_the_places_of_those_that_went() {
    let mut names = Names::new();
    let name = |key: &str| Pattern::literal([key]).unwrap();
    let gone = ["a", "b", "c"].map(|key| names.retain(&name(key)));
    gone.into_iter().for_each(|node| names.release(node));
    let reach = names.reach();
    let new = ["d", "e", "f", "g"].map(|key| names.retain(&name(key)));
    assert_eq!((names.len(), names.reach()), (5, reach + 1));
    assert_eq!(["d", "e", "f", "g"].map(|key| names.find(&name(key))), new.map(Some));
}

#[test]
fn each_name_has_a_hash_of_its_own_which_is_not_hashed_again() {
    let mut names = Names::new();
    let keys: Vec<String> = (0..50).map(|key| key.to_string()).collect();
    for key in &keys {
        names.retain(&Pattern::literal([key, "x"]).unwrap());
    }
    assert_eq!(names.children.len(), 100);
    let hashed = BuildHasherDefault::<Hashed>::default();
    assert_eq!([0, 7, u64::MAX].map(|number| hashed.hash_one(number)), [0, 7, u64::MAX]);
}

#[test]
fn a_reserved_name_that_went_with_one_below_it_does_not_go_again() {
    for below_first in [true, false] {
        let mut names = Names::new();
        let [above, below] = [&["a"][..], &["a", "b"]].map(|keys| Pattern::literal(keys.iter().copied()).unwrap());
        let (above, below) = (names.reserve(&above), names.reserve(&below));
        let order = if below_first { [below, above] } else { [above, below] };
        order.into_iter().for_each(|id| names.settle(id));
        assert_eq!(names.len(), 1, "{below_first}");
        // A place that went twice would be given away twice.
        let mut places: Vec<u32> =
            ["c", "d", "e"].map(|key| names.retain(&Pattern::literal([key]).unwrap()).number()).to_vec();
        places.sort_unstable();
        places.dedup();
        assert_eq!((places.len(), names.len()), (3, 4), "{below_first}");
    }
}
