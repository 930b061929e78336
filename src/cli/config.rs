//! `config check`, `config show`, `config schema`.

use serde_json::json;

use crate::base::class::Class;
use crate::cli::Context;
use crate::cli::arguments::ConfigVerb;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::config::{Config, Discover, Error, schema::schema};

/// Runs the verb.
pub(super) async fn run(verb: &ConfigVerb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        ConfigVerb::Check { without_secrets } => check(context, !without_secrets).await?,
        ConfigVerb::Show { json } => show(context, *json)?,
        ConfigVerb::Schema => context.output.data(format!("{:#}\n", schema()))?,
    }
    Ok(Exit::GOOD)
}

async fn check(context: &Context, with_secrets: bool) -> Result<(), Failure> {
    let config = context.config()?;
    if with_secrets {
        let checked = context.signals.stop().run_until_cancelled(check_secrets(&config, context)).await;
        checked.ok_or_else(Failure::stopped)??;
    }
    context.output.say(&format!("{} is good: {}", config.file.display(), summary(&config)));
    Ok(())
}

/// Reads every secret once; what cannot be read is told together.
async fn check_secrets(config: &Config, context: &Context) -> Result<(), Failure> {
    let environment = &context.environment;
    let mut errors: Vec<Error> = Vec::new();
    if config.repository.key.is_some() {
        errors.extend(config.repository_key(environment).await.err());
    }
    if config.encryption.identity.is_some() {
        errors.extend(config.identities(environment).await.err());
    }
    let typed = ["repository.key", "encryption.identity"];
    for secret in config.secrets().into_iter().filter(|secret| !typed.contains(&secret.name())) {
        errors.extend(secret.read(environment).await.err());
    }
    if errors.is_empty() {
        return Ok(());
    }
    let only_keys = errors.iter().all(|error| error.class() == Class::Key);
    let class = if only_keys { Class::Key } else { Class::Usage };
    let failures: Vec<Failure> = errors.into_iter().map(Failure::from).collect();
    let messages: Vec<&str> = failures.iter().map(Failure::message).collect();
    let hint = "`config check --without-secrets` checks the rest on a machine that has none of them";
    Err(Failure::said(class, messages.join("\n\n")).with_hint(hint))
}

/// What is protected, in one line.
fn summary(config: &Config) -> String {
    let mut parts = vec![format!("repository {}", config.repository.url)];
    parts.push(format!("{} server(s)", config.servers.len()));
    parts.extend(config.central.as_ref().map(|central| format!("central {}", central.database)));
    parts.extend(config.tenants.as_ref().map(|tenants| {
        let way = match &tenants.discover {
            Discover::Preset(_) => "a preset",
            Discover::Query(_) => "a query",
            Discover::Pattern(_) => "a pattern",
            Discover::List(_) => "a list",
        };
        format!("tenants by {way}")
    }));
    if !config.volumes.is_empty() {
        parts.push(format!("{} volume(s)", config.volumes.len()));
    }
    parts.join(", ")
}

fn show(context: &Context, as_json: bool) -> Result<(), Failure> {
    let config = context.config()?;
    let file = config.file.display().to_string();
    if as_json {
        let document = json!({ "file": file, "file_origin": context.config_origin, "settings": config.settings });
        return context.output.json(&document);
    }
    let lines: Vec<(String, String)> = std::iter::once((format!("# {file}"), context.config_origin.to_string()))
        .chain(
            config
                .settings
                .iter()
                .map(|setting| (format!("{} = {}", setting.path, setting.typed()), setting.origin.to_string())),
        )
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= MAX_WIDTH).max();
    let width = width.unwrap_or(MAX_WIDTH);
    let text: String = lines.iter().map(|(line, origin)| format!("{line:width$}  # {origin}\n")).collect();
    context.output.data(text)
}

/// Longer values do not push the origins of the others away.
const MAX_WIDTH: usize = 80;
