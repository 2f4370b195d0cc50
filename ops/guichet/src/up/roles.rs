//! The roles of one checkout, each a process of this same program.

use std::{
    env,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use nix::sys::signal::Signal;
use serde::Serialize;

use super::{
    home::{Home, random_secret},
    narrator::Narrator,
    probe::Probe,
    process::Spec,
    servers::{AMQP_URL, DATABASE_URL, Urls},
    supervisor::Supervisor,
};
use crate::{
    demo::Places,
    output::{self, Format},
};

const PROVIDER_KEY: &str = "provider_key";
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A role drains for up to 15 s, a worker longer by its slowest effect.
const STOP_WITHIN: Duration = Duration::from_secs(50);
/// Migrations of a large database take their time.
const TASK_WITHIN: Duration = Duration::from_secs(600);

/// How this program is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command<'a> {
    /// Its file.
    pub(crate) program: &'a Path,
    /// The configuration's file, if one was given.
    pub(crate) config: Option<&'a Path>,
}

/// What is common to the commands of one `up`.
struct Plan<'a> {
    command: Command<'a>,
    checkout: PathBuf,
    env: Vec<(String, OsString)>,
}

#[derive(Serialize)]
struct Address {
    role: &'static str,
    url: String,
    admin: String,
}

/// Migrates, loads the catalogue, starts the roles, and prints and returns where they are.
pub(crate) async fn start(
    home: &mut Home,
    supervisor: &mut Supervisor,
    narrator: Narrator,
    urls: &Urls,
    command: Command<'_>,
) -> Result<Places> {
    let gateway = home.port("gateway", Some(8080))?;
    let psp = home.port("psp", Some(8082))?;
    let plan = Plan {
        command,
        checkout: env::current_dir().context("there is no working directory")?,
        env: environment(home, urls, gateway, psp)?,
    };
    let began = Instant::now();
    supervisor
        .complete(&plan.task("migrate", &["migrate"]))
        .await?;
    narrator.say(
        "migrate",
        &format!("done ({:.1} s)", began.elapsed().as_secs_f64()),
    );
    let began = Instant::now();
    supervisor
        .complete(&plan.task("catalogue", &["catalogue", "load"]))
        .await?;
    narrator.say(
        "catalogue",
        &format!(
            "Paris 2024 is loaded ({:.1} s)",
            began.elapsed().as_secs_f64()
        ),
    );
    let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut addresses = Vec::new();
    let mut specs = Vec::new();
    let commands: [(&'static str, &[&str], Option<u16>); 4] = [
        ("psp", &["psp"], Some(psp)),
        ("worker", &["worker", "all"], None),
        ("orchestrator", &["orchestrator"], None),
        ("gateway", &["gateway"], Some(gateway)),
    ];
    for (role, arguments, port) in commands {
        let admin = loopback(home.port(&format!("{role}_admin"), None)?);
        specs.push(plan.role(role, arguments, admin));
        addresses.push(Address {
            role,
            url: port.map_or_else(String::new, |port| format!("http://{}", loopback(port))),
            admin: format!("http://{admin}/metrics"),
        });
    }
    let began = Instant::now();
    supervisor.start(specs).await?;
    narrator.say(
        "roles",
        &format!(
            "psp, worker, orchestrator and gateway are ready ({:.1} s)",
            began.elapsed().as_secs_f64()
        ),
    );
    narrator.say(
        "roles",
        "private profile: no rate limit and no address rule applies to requests from 127.0.0.0/8",
    );
    output::rows(
        Format::Table,
        &["role", "address", "metrics"],
        &addresses,
        |row| vec![row.role.to_owned(), row.url.clone(), row.admin.clone()],
    )?;
    Ok(Places {
        gateway: format!("http://{}", loopback(gateway)),
        psp: format!("http://{}", loopback(psp)),
        database: urls.database.clone(),
        mail: home.path("mail"),
    })
}

impl Plan<'_> {
    fn spec(&self, name: &str, arguments: &[&str], env: Vec<(String, OsString)>) -> Spec {
        let mut command: Vec<OsString> = vec![self.command.program.into()];
        if let Some(config) = self.command.config {
            command.extend(["--config".into(), config.into()]);
        }
        command.extend(arguments.iter().map(OsString::from));
        Spec {
            name: name.to_owned(),
            command,
            dir: self.checkout.clone(),
            env,
            inherit_env: true,
            user: None,
            stop: Signal::SIGTERM,
            stop_within: STOP_WITHIN,
            ready: Probe::Nothing,
            ready_within: TASK_WITHIN,
        }
    }

    fn task(&self, name: &str, arguments: &[&str]) -> Spec {
        self.spec(name, arguments, self.env.clone())
    }

    fn role(&self, name: &str, arguments: &[&str], admin: SocketAddr) -> Spec {
        let mut env = self.env.clone();
        env.push(("GUICHET_ADMIN_ADDR".into(), admin.to_string().into()));
        Spec {
            ready: Probe::Http(admin),
            ready_within: READY_WITHIN,
            ..self.spec(name, arguments, env)
        }
    }
}

/// What a command is told that speaks to the payment provider.
pub(super) fn provider(home: &Home, url: &str) -> [(&'static str, String); 2] {
    let key = home.secret_path(PROVIDER_KEY).display().to_string();
    [
        ("GUICHET_PAY_PROVIDER_URL", url.to_owned()),
        ("GUICHET_PAY_SECRET_KEY_FILE", key),
    ]
}

/// What the roles are told. What our own environment says already stays as it is.
fn environment(
    home: &Home,
    urls: &Urls,
    gateway: u16,
    psp: u16,
) -> Result<Vec<(String, OsString)>> {
    let secret = |name: &str, generate: fn() -> String| -> Result<OsString> {
        home.secret(name, generate)?;
        Ok(home.secret_path(name).into())
    };
    let signing_key = match fs::exists(home.secret_path("ticket_signing_key")) {
        Ok(true) => home.secret_path("ticket_signing_key").into(),
        _ => {
            let pem = signing_key()?;
            home.secret("ticket_signing_key", || pem)?;
            home.secret_path("ticket_signing_key").into()
        }
    };
    let provider_key = secret(PROVIDER_KEY, || format!("sk_test_{}", random_secret()))?;
    let webhook_secret = secret("psp_webhook_secret", || {
        format!("whsec_{}", random_secret())
    })?;
    let pairs: [(&str, OsString); 17] = [
        (DATABASE_URL, urls.database.clone().into()),
        (AMQP_URL, urls.amqp.clone().into()),
        (
            "GUICHET_GATEWAY_ADDR",
            format!("127.0.0.1:{gateway}").into(),
        ),
        (
            "GUICHET_GATEWAY_ORDER_TOKEN_SECRET_FILE",
            secret("order_token_secret", random_secret)?,
        ),
        (
            "GUICHET_GATEWAY_PSP_WEBHOOK_SECRET_FILE",
            webhook_secret.clone(),
        ),
        ("GUICHET_GATEWAY_RATE_LIMIT_EXEMPT", "127.0.0.0/8".into()),
        ("GUICHET_FRAUD_EXEMPT_NETWORKS", "127.0.0.0/8".into()),
        ("GUICHET_ISSUE_SIGNING_KEY_FILE", signing_key),
        (
            "GUICHET_PAY_PROVIDER_URL",
            format!("http://127.0.0.1:{psp}").into(),
        ),
        ("GUICHET_PAY_SECRET_KEY_FILE", provider_key.clone()),
        (
            "GUICHET_PAY_RETURN_URL",
            format!("http://127.0.0.1:{gateway}/v1/orders/{{order_id}}").into(),
        ),
        ("GUICHET_MAIL_DIRECTORY", home.path("mail").into()),
        ("GUICHET_PSP_ADDR", format!("127.0.0.1:{psp}").into()),
        ("GUICHET_PSP_SECRET_KEY_FILE", provider_key),
        (
            "GUICHET_PSP_WEBHOOK_URL",
            format!("http://127.0.0.1:{gateway}/v1/psp/webhook").into(),
        ),
        ("GUICHET_PSP_WEBHOOK_SECRET_FILE", webhook_secret),
        (
            "GUICHET_PSP_LEDGER_PATH",
            home.path("psp-ledger.jsonl").into(),
        ),
    ];
    let ours = |(name, _): &(&str, OsString)| {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        env::var_os(plain).is_none() && env::var_os(format!("{plain}_FILE")).is_none()
    };
    let pairs = pairs.into_iter().filter(ours);
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

/// A new Ed25519 key as PKCS#8 in PEM.
fn signing_key() -> Result<String> {
    let key = SigningKey::from_bytes(&rand::random());
    let pem = key
        .to_pkcs8_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF)
        .context("cannot write the key that signs tickets")?;
    Ok(pem.to_string())
}
