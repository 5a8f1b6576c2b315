//! cedar: a policy linked from a template for each grant, entities for users, groups and resources.

use std::collections::{HashMap, HashSet};

use carta_gateway::cli::bench::population::Population;
use carta_gateway::policy::{Levels, Member};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request,
    SlotId, Template,
};

use super::{Peer, Question, fits};

const ALLOW: &str = "permit(principal in ?principal, action == Action::\"execute\", resource in ?resource);";
const DENY: &str = "forbid(principal in ?principal, action == Action::\"execute\", resource in ?resource);";

/// Between two looks at how much is held.
const BATCH: usize = 10_000;

pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
}

impl Peer for Cedar {
    fn of(population: Population) -> Result<Self, String> {
        let mut policies = PolicySet::new();
        for (name, text) in [("allow", ALLOW), ("deny", DENY)] {
            let template = Template::parse(Some(PolicyId::new(name)), text).map_err(|error| error.to_string())?;
            policies.add_template(template).map_err(|error| error.to_string())?;
        }
        for (number, grant) in population.grants().enumerate() {
            let template = if grant.levels.has_all(Levels::EXECUTE) { "allow" } else { "deny" };
            let slots = HashMap::from([
                (SlotId::principal(), uid("Subject", &grant.subject.to_string())),
                (SlotId::resource(), uid("Resource", &grant.pattern.to_string())),
            ]);
            policies
                .link(PolicyId::new(template), PolicyId::new(number.to_string()), slots)
                .map_err(|error| error.to_string())?;
            if number % BATCH == 0 {
                fits()?;
            }
        }
        let members = population.members().map(member);
        let places = (0..population.services).map(|number| {
            let [namespace, service] = population.service(number);
            let above = HashSet::from([uid("Resource", &namespace)]);
            Entity::new_no_attrs(uid("Resource", &format!("{namespace}.{service}")), above)
        });
        let entities = Entities::from_entities(members.chain(places), None).map_err(|error| error.to_string())?;
        fits()?;
        Ok(Self { authorizer: Authorizer::new(), policies, entities })
    }

    fn allows(&self, question: &Question) -> bool {
        let user = uid("Subject", &format!("user:{}", question.user));
        let (action, resource) = (uid("Action", "execute"), uid("Resource", &question.service.join(".")));
        let request = Request::new(user, action, resource, Context::empty(), None);
        request.is_ok_and(|request| {
            self.authorizer.is_authorized(&request, &self.policies, &self.entities).decision() == Decision::Allow
        })
    }
}

fn member(member: Member) -> Entity {
    let groups = member.groups.iter().map(|group| uid("Subject", &format!("group:{group}")));
    let all = groups.chain([uid("Subject", &format!("role:{}", member.role)), uid("Subject", "everyone")]);
    Entity::new_no_attrs(uid("Subject", &format!("user:{}", member.id)), all.collect())
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("a plain word");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}
