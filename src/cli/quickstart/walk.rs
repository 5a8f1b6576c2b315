//! `quickstart --check`: the flow of the printed lines, walked over real sockets, each step judged.

use std::io::Write;
use std::time::Duration;

use http::Method;

use super::Failure;
use super::backend::{Backend, EVENTS};
use super::client::{Answer, Call};
use super::lines::Places;
use super::setup::{SECRET, Setup};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Walks the flow.
///
/// # Errors
/// [`Failure::NotFine`] when a step was a surprise.
pub(super) async fn walk(
    setup: &Setup,
    places: &Places,
    backend: &Backend,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut walk = Walk { setup, places, backend, out, steps: 0, surprises: 0 };
    let flow = tokio::time::timeout(PATIENCE, walk.flow()).await;
    flow.map_err(|_| Failure::NotFine(format!("not ok: no answer within {PATIENCE:?}")))??;
    let (steps, surprises) = (walk.steps, walk.surprises);
    if surprises > 0 {
        return Err(Failure::NotFine(format!("{surprises} of {steps} steps were a surprise")));
    }
    writeln!(out, "all {steps} steps as expected")?;
    Ok(())
}

struct Walk<'a> {
    setup: &'a Setup,
    places: &'a Places,
    backend: &'a Backend,
    out: &'a mut dyn Write,
    steps: usize,
    surprises: usize,
}

impl Walk<'_> {
    async fn flow(&mut self) -> Result<(), Failure> {
        self.refusals().await?;
        self.secret_and_grant().await?;
        self.call().await?;
        self.stream().await?;
        self.withdrawal().await
    }

    /// Nobody, and somebody who may not.
    async fn refusals(&mut self) -> Result<(), Failure> {
        let answer = self.echo(None).await?;
        let challenge = answer.headers.contains_key("www-authenticate");
        self.step("a call of nobody is refused: 401", answer.status == 401 && challenge, &answer)?;
        let answer = self.echo(Some(&self.setup.bob)).await?;
        self.step("bob's call is refused before the grant: 403", answer.status == 403, &answer)?;
        let says = ["execute", "demo.echo", "alice"].iter().all(|word| answer.text.contains(word));
        self.step("the refusal names the level, the resource and its owner", says, &answer)?;
        let calls = self.backend.calls();
        self.step("nothing of that reached the service", calls == 0, &answer)
    }

    async fn secret_and_grant(&mut self) -> Result<(), Failure> {
        let Setup { alice, bob, secret, .. } = self.setup;
        let header = format!("secret-{SECRET}");
        let answer = self.rest(Method::PUT, "/secret", bob, Some((&header, secret))).await?;
        self.step("bob stores his own key: 200", answer.status == 200, &answer)?;
        let target = Places::grant(self.setup);
        let answer = self.rest(Method::PUT, &target, bob, None).await?;
        self.step("bob cannot grant himself anything: 403", answer.status == 403, &answer)?;
        let answer = self.rest(Method::PUT, &target, alice, None).await?;
        let shown = answer.headers.contains_key("carta-revision");
        self.step("alice, the owner, lets bob call: 200", answer.status == 200 && shown, &answer)
    }

    /// The same call, and what the service received.
    async fn call(&mut self) -> Result<(), Failure> {
        let answer = self.echo(Some(&self.setup.bob)).await?;
        self.step("the same call works right after the grant: 200", answer.status == 200, &answer)?;
        let key = answer.json("/received/headers/x-api-key");
        self.step("the service received bob's own key", key == self.setup.secret, &answer)?;
        let user = answer.json("/received/headers/x-carta-user");
        self.step("the service was told who calls", user == "bob", &answer)?;
        let token = answer.text.contains("authorization") || answer.text.contains(&*self.setup.bob);
        self.step("the service did not receive bob's token", !token, &answer)?;
        let answer = self.rest(Method::GET, "/service/demo/echo/hello", &self.setup.bob, None).await?;
        self.step("the same call works at the API's address: 200", answer.status == 200, &answer)
    }

    /// The service holds back all but the first event until that has arrived here.
    async fn stream(&mut self) -> Result<(), Failure> {
        let call = Call {
            method: Method::GET,
            to: self.places.proxy,
            target: "/demo/echo/stream?wait",
            token: Some(&self.setup.bob),
            header: None,
        };
        let mut streaming = call.stream().await?;
        let first = streaming.next().await?.unwrap_or_default();
        let seen = Answer { status: streaming.status, headers: http::HeaderMap::new(), text: first.clone() };
        let early = first.contains("event 1") && !first.contains("event 2");
        self.step("an answer is streamed: its first event arrives before the next is sent", early, &seen)?;
        self.backend.release();
        let mut rest = String::new();
        while let Some(more) = streaming.next().await? {
            rest.push_str(&more);
        }
        let seen = Answer { text: rest.clone(), ..seen };
        self.step("and then the others", rest.contains(&format!("event {EVENTS}")), &seen)
    }

    async fn withdrawal(&mut self) -> Result<(), Failure> {
        let target = format!("/permissions/{}/bob", self.setup.service);
        let answer = self.rest(Method::DELETE, &target, &self.setup.alice, None).await?;
        self.step("alice takes the grant back: 200", answer.status == 200, &answer)?;
        let calls = self.backend.calls();
        let answer = self.echo(Some(&self.setup.bob)).await?;
        let refused = answer.status == 403 && self.backend.calls() == calls;
        self.step("bob's next call is refused again: 403", refused, &answer)
    }

    async fn echo(&self, token: Option<&str>) -> Result<Answer, Failure> {
        Call { method: Method::GET, to: self.places.proxy, target: "/demo/echo/hello", token, header: None }
            .send()
            .await
    }

    async fn rest(
        &self,
        method: Method,
        target: &str,
        token: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, Failure> {
        Call { method, to: self.places.api, target, token: Some(token), header }.send().await
    }

    /// Prints the step; a surprise with what was seen.
    fn step(&mut self, what: &str, fine: bool, seen: &Answer) -> Result<(), Failure> {
        self.steps += 1;
        let verdict = if fine { "ok    " } else { "not ok" };
        writeln!(self.out, "{verdict} {:>2}  {what}", self.steps)?;
        if !fine {
            self.surprises += 1;
            writeln!(self.out, "           seen: {} {}", seen.status, seen.text.trim().replace('\n', "\n           "))?;
        }
        Ok(())
    }
}
