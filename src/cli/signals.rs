//! SIGTERM and SIGINT: the first asks for a clean stop, the second stops at once.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::exit::Exit;

/// What can stop the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: from an orchestrator.
    Terminate,
}

impl Signal {
    /// How a process ends that this signal stopped.
    pub fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::INTERRUPTED,
            Self::Terminate => Exit::TERMINATED,
        }
    }
}

/// Listens for signals.
#[derive(Clone, Debug)]
pub struct Signals {
    stop: CancellationToken,
    first: Arc<OnceLock<Signal>>,
}

impl Signals {
    /// Begins to listen, for the rest of the process's life; needs a runtime.
    pub fn listen() -> std::io::Result<Self> {
        let signals = Self { stop: CancellationToken::new(), first: Arc::default() };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let listener = signals.clone();
        tokio::spawn(async move {
            loop {
                let received = tokio::select! {
                    _ = interrupt.recv() => Signal::Interrupt,
                    _ = terminate.recv() => Signal::Terminate,
                };
                listener.receive(received);
            }
        });
        Ok(signals)
    }

    /// Cancelled by the first signal.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// The first signal, once there was one.
    pub fn first(&self) -> Option<Signal> {
        self.first.get().copied()
    }

    #[expect(clippy::disallowed_methods, reason = "whoever asks twice does not want to wait for a clean end")]
    fn receive(&self, received: Signal) {
        if self.first.set(received).is_err() {
            std::process::exit(received.exit().code().into());
        }
        self.stop.cancel();
    }
}
