//! casbin: a rule for each grant, a role for each membership; a deny beats what allows.

use carta_gateway::cli::bench::population::Population;
use carta_gateway::policy::{Levels, Member};
use casbin::rhai::ImmutableString;
use casbin::{CoreApi, DefaultModel, Enforcer, MemoryAdapter, MgmtApi};

use super::{Peer, Question, fits};

const MODEL: &str = "
[request_definition]
r = sub, obj, act

[policy_definition]
p = sub, obj, act, eft

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.act == p.act && covers(p.obj, r.obj) && g(r.sub, p.sub)
";

/// Rules that are handed over together.
const BATCH: usize = 10_000;

pub(crate) struct Casbin(Enforcer);

impl Peer for Casbin {
    fn of(population: Population) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        runtime.block_on(fill(population)).map(Self)
    }

    fn allows(&self, question: &Question) -> bool {
        let user = format!("user:{}", question.user);
        self.0.enforce((user, question.service.join("."), "execute")).unwrap_or(false)
    }
}

async fn fill(population: Population) -> Result<Enforcer, String> {
    let cannot = |error: casbin::Error| error.to_string();
    let model = DefaultModel::from_str(MODEL).await.map_err(cannot)?;
    let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await.map_err(cannot)?;
    enforcer.add_function(
        "covers",
        casbin::function_map::OperatorFunction::Arg2(|pattern, name| {
            let text = |value: casbin::rhai::Dynamic| value.into_immutable_string().unwrap_or(ImmutableString::new());
            covers(&text(pattern), &text(name)).into()
        }),
    );
    let members: Vec<Vec<String>> = population.members().flat_map(roles).collect();
    for batch in members.chunks(BATCH) {
        enforcer.add_grouping_policies(batch.to_vec()).await.map_err(cannot)?;
        fits()?;
    }
    let mut rules = Vec::with_capacity(BATCH);
    for grant in population.grants() {
        let effect = if grant.levels.has_all(Levels::EXECUTE) { "allow" } else { "deny" };
        rules.push([grant.subject.to_string(), grant.pattern.to_string(), "execute".into(), effect.into()].to_vec());
        if rules.len() == BATCH {
            enforcer.add_policies(std::mem::take(&mut rules)).await.map_err(cannot)?;
            fits()?;
        }
    }
    enforcer.add_policies(rules).await.map_err(cannot)?;
    Ok(enforcer)
}

fn roles(member: Member) -> Vec<Vec<String>> {
    let user = format!("user:{}", member.id);
    let groups = member.groups.iter().map(|group| format!("group:{group}"));
    let all = groups.chain([format!("role:{}", member.role), "everyone".to_owned()]);
    all.map(|role| vec![user.clone(), role]).collect()
}

/// Whether the pattern, in which a key may be `*`, is the name or above it.
fn covers(pattern: &str, name: &str) -> bool {
    let mut keys = name.split('.');
    pattern.split('.').all(|of| keys.next().is_some_and(|key| of == "*" || of == key))
}
