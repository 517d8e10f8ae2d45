//! What the accelerators of a command line offer to CPU models.

use std::cell::RefCell;

use tokio::sync::OnceCell;

use crate::accel::choice;
use crate::accel::hostfile::{self, HostDescription};
use crate::cmdline::Config;
use crate::ipc::message::WorkerRequest;
use crate::machine::config::AccelConfig;
use crate::qapi::Error;
use crate::report;

use super::link::WorkerLink;
use super::probe::Probe;

/// The accelerators of a command line; each is asked at most once: without a guest right at the start, else
/// when a client wants to know.
pub struct Hosts {
    source: Source,
    answers: OnceCell<Vec<Probed>>,
}

enum Source {
    /// The guest's worker, which has its accelerator open.
    Worker(WorkerLink),
    /// Probe processes, one for each accelerator, until they are asked for their answers.
    Probes(RefCell<Vec<Running>>),
}

/// An accelerator that is being probed, or why it cannot be.
type Running = (AccelConfig, Result<Probe, String>);

/// What one accelerator said.
#[derive(Debug)]
pub struct Probed {
    /// How replies call the accelerator.
    pub name: String,
    /// Whether it is KVM.
    pub is_kvm: bool,
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

    /// The accelerators that a command line without a guest lists, or all there are. Their probes start at once, which
    /// takes a process with a single thread.
    ///
    /// # Errors
    /// The list makes no sense.
    pub fn probed(config: &Config) -> Result<Self, Error> {
        let target = config.target;
        let mut accels = config.machine.accels.clone();
        if accels.is_empty() {
            let built_in = |name: &&str| AccelConfig {
                name: (*name).to_owned(),
                props: Vec::new(),
            };
            accels = choice::built_in(target).iter().map(built_in).collect();
        } else {
            let listed = accels.iter().map(|accel| (accel.name.as_str(), &accel.props));
            choice::check_probed(target, listed).map_err(Error::generic)?;
            accels.retain(|accel| choice::is_known(target, &accel.name));
        }
        let start = |accel: AccelConfig| {
            let probe = Probe::start(target, accel.clone(), config.sandbox);
            (accel, probe)
        };
        Ok(Self {
            source: Source::Probes(RefCell::new(accels.into_iter().map(start).collect())),
            answers: OnceCell::new(),
        })
    }

    /// Every accelerator, in order, with what it said.
    pub async fn all(&self) -> &[Probed] {
        self.answers.get_or_init(|| self.ask()).await
    }

    /// The first accelerator that can be used, by name.
    pub async fn in_use(&self) -> Option<(&str, &HostDescription)> {
        let probed = self.first_usable().await?;
        Some((probed.name.as_str(), probed.host.as_ref().ok()?))
    }

    /// Whether guests run, or would run, on KVM.
    pub async fn kvm_enabled(&self) -> bool {
        match &self.source {
            Source::Worker(_) => true,
            Source::Probes(..) => self.first_usable().await.is_some_and(|probed| probed.is_kvm),
        }
    }

    async fn first_usable(&self) -> Option<&Probed> {
        self.all().await.iter().find(|probed| probed.host.is_ok())
    }

    async fn ask(&self) -> Vec<Probed> {
        match &self.source {
            Source::Worker(link) => {
                let answer = link.ask(WorkerRequest::DescribeHost).await.map_err(|error| error.desc);
                vec![Probed {
                    name: "kvm".to_owned(),
                    is_kvm: true,
                    host: answer.and_then(|answer| understand(&answer)),
                }]
            }
            Source::Probes(running) => {
                let running = running.take();
                let mut answers = Vec::new();
                for (accel, probe) in running {
                    answers.push(ask_one(&accel, probe).await);
                }
                answers
            }
        }
    }
}

async fn ask_one(accel: &AccelConfig, probe: Result<Probe, String>) -> Probed {
    let host = answer(probe).await;
    let is_kvm = accel.name != hostfile::NAME;
    let name = if is_kvm {
        accel.name.as_str()
    } else {
        hostfile::label(&accel.props)
    };
    match &host {
        // A host without KVM is nothing to warn of: libvirt asks on every host.
        Err(reason) if is_kvm => tracing::info!(accelerator = name, "cannot be used: {reason}"),
        Err(reason) => report::warning(format!("accelerator {name} cannot be used: {reason}")),
        Ok(_) => {}
    }
    Probed {
        name: name.to_owned(),
        is_kvm,
        host,
    }
}

async fn answer(probe: Result<Probe, String>) -> Result<HostDescription, String> {
    understand(&probe?.finish().await?)
}

fn understand(answer: &[u8]) -> Result<HostDescription, String> {
    let value = serde_json::from_slice(answer).map_err(|error| format!("the host description is not JSON: {error}"))?;
    hostfile::parse(&value).map_err(|problem| problem.to_string())
}
