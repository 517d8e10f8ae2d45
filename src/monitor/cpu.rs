//! What the accelerators of a command line offer to CPU models.

use tokio::sync::OnceCell;

use crate::accel::BUILT_IN;
use crate::accel::describe::describe;
use crate::accel::hostfile::{self, HostDescription};
use crate::cmdline::Config;
use crate::machine::config::AccelConfig;
use crate::target::Target;
use crate::worker::message::ToWorker;

use super::link::WorkerLink;
use super::probe::Probe;

/// The accelerators of a command line; each is asked at most once, when the first client wants to know.
pub struct Hosts {
    source: Source,
    answers: OnceCell<Vec<Probed>>,
}

enum Source {
    /// The guest's worker, which has its accelerator open.
    Worker(WorkerLink),
    /// Probe processes, one for each accelerator in turn.
    Probes(Target, Vec<AccelConfig>),
}

/// What one accelerator said.
#[derive(Debug)]
pub struct Probed {
    /// The accelerator.
    pub name: String,
    /// What it offers, or why it cannot be used.
    pub host: Result<HostDescription, String>,
}

impl Hosts {
    /// The accelerator of a running guest.
    #[must_use]
    pub fn of_worker(link: WorkerLink) -> Self {
        Self {
            source: Source::Worker(link),
            answers: OnceCell::new(),
        }
    }

    /// The accelerators that a command line without a guest lists, or all there are.
    #[must_use]
    pub fn probed(config: &Config) -> Self {
        let mut accels = config.machine.accels.clone();
        if accels.is_empty() {
            let built_in = |name: &&str| AccelConfig {
                name: (*name).to_owned(),
                props: Vec::new(),
            };
            accels = BUILT_IN.iter().map(built_in).collect();
        }
        Self {
            source: Source::Probes(config.target, accels),
            answers: OnceCell::new(),
        }
    }

    /// Every accelerator, in order, with what it said.
    pub async fn all(&self) -> &[Probed] {
        self.answers.get_or_init(|| self.ask()).await
    }

    /// The first accelerator that can be used.
    pub async fn in_use(&self) -> Option<(&str, &HostDescription)> {
        let answers = self.all().await.iter();
        answers
            .filter_map(|probed| Some((probed.name.as_str(), probed.host.as_ref().ok()?)))
            .next()
    }

    /// Whether guests run, or would run, on KVM.
    pub async fn kvm_enabled(&self) -> bool {
        match &self.source {
            Source::Worker(_) => true,
            Source::Probes(..) => self.in_use().await.is_some_and(|(name, _)| name == "kvm"),
        }
    }

    async fn ask(&self) -> Vec<Probed> {
        match &self.source {
            Source::Worker(link) => {
                let answer = link
                    .call(ToWorker::DescribeHost, Vec::new())
                    .await
                    .map_err(|error| error.desc);
                vec![Probed {
                    name: "kvm".to_owned(),
                    host: answer.and_then(|answer| understand(&answer)),
                }]
            }
            Source::Probes(target, accels) => {
                let mut answers = Vec::new();
                for accel in accels {
                    let host = probe(*target, accel).await;
                    if let Err(reason) = &host {
                        tracing::info!(accelerator = accel.name, "cannot be used: {reason}");
                    }
                    answers.push(Probed {
                        name: accel.name.clone(),
                        host,
                    });
                }
                answers
            }
        }
    }
}

async fn probe(target: Target, accel: &AccelConfig) -> Result<HostDescription, String> {
    let probe = Probe::start(|| describe(target, &accel.name, &accel.props))?;
    understand(&probe.finish().await?)
}

fn understand(answer: &[u8]) -> Result<HostDescription, String> {
    let value = serde_json::from_slice(answer).map_err(|error| format!("the host description is not JSON: {error}"))?;
    hostfile::parse(&value).map_err(|problem| problem.to_string())
}
