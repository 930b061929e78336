//! Layer 7: the command line: arguments in; data, talk and an exit code out.
//!
//! One file per verb, each with `run(arguments, context) -> Result<Exit, Failure>`. Only [`output`] prints, only [`exit`]
//! decides how the process ends, and clap is known nowhere else.

pub mod arguments;
mod backup;
mod checkpoint;
mod config;
mod copy;
mod doctor;
mod drill;
mod erase;
mod evidence;
pub mod exit;
mod export;
pub mod failure;
mod hold;
mod init;
mod keygen;
mod keys;
mod list;
pub mod output;
mod passphrase;
mod prune;
mod report;
mod restore;
pub mod signals;
pub mod upkeep;
pub mod values;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::base::class::Class;
use crate::base::clock::{SystemClock, SystemEntropy};
use crate::base::monitor::Monitor;
use crate::cli::arguments::{Arguments, General, LogFormat, Verb};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::config::environment::{CONFIG_VARIABLE, LOG_VARIABLE};
use crate::config::{Config, Environment, Origin};
use crate::job;
use crate::observe::log;
use crate::observe::progress::{Bars, Lines};

/// The configuration, where nobody names another.
const DEFAULT_CONFIG: &str = "dbkeeper.toml";

/// What every verb is given beside its own arguments.
pub struct Context {
    /// The environment of the process.
    pub environment: Environment,
    /// The file of the configuration.
    pub config_file: PathBuf,
    /// Who named that file.
    pub config_origin: Origin,
    /// The copy to work on in place of the repository.
    pub repository: Option<String>,
    /// Where to print.
    pub output: Output,
    /// Whether to stop.
    pub signals: Signals,
}

impl Context {
    /// Reads and checks the configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        let mut config = Config::load(&self.config_file, &self.environment)?;
        if let Some(name) = self.repository.as_deref().filter(|name| !config.use_copy(name)) {
            let known: Vec<&str> = config.copies.iter().map(|copy| copy.name.as_str()).collect();
            let failure = Failure::said(Class::Usage, format!("the configuration has no copy called {name:?}"));
            let hint = "--repository names one of the sections [[copies]]";
            return Err(failure.with_hint(match known.is_empty() {
                true => hint.to_owned(),
                false => format!("{hint}: {}", known.join(", ")),
            }));
        }
        config.encryption.ask = std::io::stdin().is_terminal().then_some(passphrase::ask);
        Ok(config)
    }
}

/// A job's context, and the progress that it tells.
struct Job {
    context: job::Context,
    progress: Progress,
}

impl std::ops::Deref for Job {
    type Target = job::Context;

    fn deref(&self) -> &job::Context {
        &self.context
    }
}

impl Job {
    /// Tells how often the store was asked, where that costs something.
    fn say_requests(&self, output: Output) {
        if let Some(requests) = self.requests.total() {
            output.say(&requests.to_string());
        }
    }
}

/// Bars on a terminal, log lines elsewhere.
enum Progress {
    Bars(Arc<Bars>),
    Lines,
}

impl Progress {
    /// Takes the bars away before anything else is printed.
    fn finish(&self) {
        if let Self::Bars(bars) = self {
            bars.finish();
        }
    }
}

fn job_context(context: &Context, config: Config) -> Job {
    let on_terminal = std::io::stderr().is_terminal() && !context.output.is_quiet();
    let (monitor, progress): (Arc<dyn Monitor>, Progress) = match on_terminal {
        true => {
            let bars = Arc::new(Bars::default());
            (Arc::<Bars>::clone(&bars), Progress::Bars(bars))
        }
        false => (Arc::new(Lines::default()), Progress::Lines),
    };
    let path = context.environment.get("PATH").map(std::env::split_paths);
    let context = job::Context {
        config: Arc::new(config),
        environment: Arc::new(context.environment.clone()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        monitor,
        stop: context.signals.stop().clone(),
        search_path: path.map(Iterator::collect).unwrap_or_default(),
        requests: Arc::default(),
    };
    Job { context, progress }
}

/// The whole program.
pub fn main() -> ExitCode {
    leave_no_core();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return answer_clap(&error).into(),
    };
    let output = Output::new(arguments.general.quiet);
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match built {
        Ok(runtime) => {
            let ended = runtime.block_on(run(arguments, output));
            // What still blocks in a thread (a pipe that nobody writes to) is nothing that a verb waited for.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err((Failure::said(Class::Unexpected, format!("start the runtime: {error}")), None)),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err((failure, signal)) => {
            output.failure(&failure);
            Exit::of(failure.class(), signal).into()
        }
    }
}

/// A crash must not write the memory, with keys and rows, to a disk; the client programs inherit this.
fn leave_no_core() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering a limit is always allowed.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

async fn run(arguments: Arguments, output: Output) -> Result<Exit, (Failure, Option<signals::Signal>)> {
    let listening = Signals::listen();
    let signals = listening.map_err(|error| (Failure::new(&error, Class::Unexpected, None), None))?;
    let first = signals.clone();
    let environment = Environment::of_process();
    let ended = match install_log(&arguments.general, &environment) {
        Ok(()) => {
            let (config_file, config_origin) = find_config(&arguments.general, &environment);
            let repository = arguments.general.repository;
            let context = Context { environment, config_file, config_origin, repository, output, signals };
            Box::pin(run_verb(arguments.verb, &context)).await
        }
        Err(failure) => Err(failure),
    };
    ended.map_err(|failure| (failure, first.first()))
}

async fn run_verb(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    refuse_volumes(&verb)?;
    refuse_copy(&verb, context)?;
    match verb {
        Verb::Keygen(arguments) => keygen::run(&arguments, context).await,
        Verb::Config(verb) => config::run(&verb, context).await,
        Verb::Doctor(arguments) => doctor::run(&arguments, context).await,
        Verb::Init(arguments) => init::run(&arguments, context).await,
        Verb::Backup(arguments) => backup::run(&arguments, context).await,
        Verb::List(arguments) => list::run(&arguments, context).await,
        Verb::Show(arguments) => Box::pin(list::show(&arguments, context)).await,
        Verb::Restore(arguments) => restore::run(&arguments, context).await,
        Verb::Verify(arguments) => verify::run(&arguments, context).await,
        Verb::Checkpoint(arguments) => checkpoint::run(&arguments, context).await,
        Verb::Drill(arguments) => drill::run(&arguments, context).await,
        Verb::Export(arguments) => export::run(&arguments, context).await,
        Verb::Copy(arguments) => copy::run(&arguments, context).await,
        Verb::Keys(verb) => keys::run(&verb, context).await,
        Verb::Prune(arguments) => prune::run(&arguments, context).await,
        Verb::Erase(arguments) => erase::run(&arguments, context).await,
        Verb::Hold(arguments) => hold::run(&arguments, context).await,
        Verb::Release(arguments) => hold::release(&arguments, context).await,
    }
}

/// A copy is made by `copy` and by nothing else: backups of its own would not be in the first repository.
fn refuse_copy(verb: &Verb, context: &Context) -> Result<(), Failure> {
    let writes = matches!(verb, Verb::Init(_) | Verb::Backup(_));
    match context.repository.as_deref().filter(|_| writes) {
        None => Ok(()),
        Some(name) => {
            let failure =
                Failure::said(Class::Usage, format!("nothing but `dbkeeper copy` writes to the copy {name:?}"));
            Err(failure
                .with_hint("leave --repository out; if the copy is to take over, write its url into [repository]"))
        }
    }
}

/// Volumes can be configured, and nothing copies them yet: that must never look like success.
fn refuse_volumes(verb: &Verb) -> Result<(), Failure> {
    let name = match verb {
        Verb::Backup(arguments) => arguments.volume.first(),
        Verb::List(arguments) => arguments.of.volume.as_ref(),
        Verb::Restore(arguments) => arguments.of.volume.as_ref(),
        Verb::Export(arguments) => arguments.of.volume.as_ref(),
        Verb::Copy(arguments) => arguments.of.volume.as_ref(),
        _ => None,
    };
    name.map_or(Ok(()), |name| {
        let failure =
            Failure::said(Class::Usage, format!("volume {name} cannot be selected: volumes are not supported yet"));
        Err(failure.with_hint("select databases with --central, --tenant or --all"))
    })
}

/// Help and version are data; what is wrong with the arguments is talk.
fn answer_clap(error: &clap::Error) -> Exit {
    let output = Output::new(false);
    let text = error.render().to_string();
    if error.use_stderr() {
        output.usage(&text);
        return Exit::USAGE;
    }
    match output.data(text) {
        Ok(()) => Exit::GOOD,
        Err(failure) => Exit::of(failure.class(), None),
    }
}

/// `DBKEEPER_LOG` where it is set, else by `-q` and `-v`.
fn install_log(general: &General, environment: &Environment) -> Result<(), Failure> {
    let by_flags = match (general.quiet, general.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,dbkeeper=info",
        (false, 1) => "warn,dbkeeper=debug",
        (false, _) => "info,dbkeeper=trace",
    };
    let named = environment.get(LOG_VARIABLE).map(|filter| filter.to_string_lossy());
    let named = named.as_deref().filter(|filter| !filter.is_empty());
    let format = match general.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    let installed = log::install(format, named.unwrap_or(by_flags));
    installed.map_err(|error| {
        let hint = format!("{LOG_VARIABLE} takes filters such as debug or warn,dbkeeper=trace");
        Failure::new(&error, Class::Usage, Some(hint))
    })
}

/// The flag, else the environment, else the default.
fn find_config(general: &General, environment: &Environment) -> (PathBuf, Origin) {
    if let Some(file) = &general.config {
        return (file.clone(), Origin::Argument { flag: "--config".to_owned() });
    }
    match environment.path(CONFIG_VARIABLE) {
        Some(file) => (file, Origin::Environment { variable: CONFIG_VARIABLE.to_owned() }),
        None => (PathBuf::from(DEFAULT_CONFIG), Origin::Default),
    }
}
