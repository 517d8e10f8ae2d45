//! The list of cards and back ends, by the names that clients know.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::announce::{AnnounceSchedule, Announcer};
use super::netdev::{Attachment, Netdev};
use super::open::Opened;
use super::{Mac, NetError};
use crate::qapi::qmp::SocketAddress;

/// A card, as far as clients deal with it.
pub trait Nic: Send + Sync {
    /// Its address.
    fn mac(&self) -> Mac;
    /// Its back end, if it has one.
    fn netdev(&self) -> Option<Arc<Netdev>>;
    /// Plugs its cable in or out.
    fn set_link(&self, up: bool);
    /// Which frames it takes; the next change is told of.
    fn rx_filter(&self) -> RxFilter;
    /// Tells its network where it is.
    fn announce(&self);
    /// Its back end is taken from it, and does not come back.
    fn lose_netdev(&self);
}

/// Which frames of a kind a card takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxState {
    /// Those that its table has.
    Normal,
    /// None.
    None,
    /// All.
    All,
}

/// Which frames a card takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RxFilter {
    /// All.
    pub promiscuous: bool,
    /// Those to groups.
    pub multicast: RxState,
    /// Those to single cards.
    pub unicast: RxState,
    /// Those of tagged networks.
    pub vlan: RxState,
    /// It was told to take none that are for all.
    pub no_broadcast: bool,
    /// There were more groups than it has room for.
    pub multicast_overflow: bool,
    /// There were more single cards than it has room for.
    pub unicast_overflow: bool,
    /// Its own address.
    pub main_mac: Mac,
    /// The tags, from the highest on.
    pub vlan_table: Vec<u16>,
    /// Further addresses of its own, the last first.
    pub unicast_table: Vec<Mac>,
    /// The groups, the last first.
    pub multicast_table: Vec<Mac>,
}

/// Something that clients are told of.
#[derive(Clone, Debug)]
pub enum News {
    /// A back end of this id has a peer of this address.
    Connected(String, SocketAddress),
    /// A back end of this id has no peer any more.
    Disconnected(String),
    /// A card takes other frames than it did: its id, and the path of what filters.
    RxFilterChanged(Option<String>, String),
}

/// All of them. Clones are the same list.
#[derive(Clone, Default)]
pub struct Networks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    netdevs: Mutex<Vec<Arc<Netdev>>>,
    nics: Mutex<Vec<Entry>>,
    macs: Mutex<Vec<Mac>>,
    news: Teller,
    announcer: Announcer,
}

#[derive(Clone)]
struct Entry {
    name: String,
    model: &'static str,
    nic: Weak<dyn Nic>,
}

/// What is to be told. Clones are the same.
#[derive(Clone, Default)]
pub struct Teller(Arc<Pending>);

#[derive(Default)]
struct Pending {
    news: Mutex<VecDeque<News>>,
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Teller {
    /// Tells it.
    pub fn tell(&self, news: News) {
        lock(&self.0.news).push_back(news);
        if let Some(bell) = self.0.bell.get() {
            bell();
        }
    }
}

/// An address that a card has, until it is dropped.
pub struct MacClaim {
    networks: Networks,
    mac: Mac,
}

/// A card's place in the list, until it is dropped.
pub struct NicRegistration {
    name: String,
    mac: MacClaim,
}

impl Networks {
    /// First address of cards that nobody gave one: the last byte counts.
    const FIRST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

    /// Says how to call whoever takes the news, once.
    pub fn on_news(&self, bell: impl Fn() + Send + Sync + 'static) {
        let is_first = self.0.news.0.bell.set(Box::new(bell)).is_ok();
        debug_assert!(is_first, "news have one reader");
    }

    /// What happened since this was called last.
    #[must_use]
    pub fn take_news(&self) -> Vec<News> {
        lock(&self.0.news.0.news).drain(..).collect()
    }

    /// For whoever has something to tell.
    #[must_use]
    pub fn teller(&self) -> Teller {
        self.0.news.clone()
    }

    /// Checks that there is no back end of this id.
    ///
    /// # Errors
    /// There is one.
    pub fn check_free(&self, id: &str) -> Result<(), NetError> {
        match self.find(id) {
            Some(_) => Err(NetError::Duplicate(id.to_owned())),
            None => Ok(()),
        }
    }

    /// Adds a back end.
    ///
    /// # Errors
    /// There is one of its id, or the host has no room for it.
    pub fn add(&self, opened: Opened) -> Result<(), NetError> {
        self.check_free(&opened.id)?;
        let netdev = Netdev::new(opened, self.0.news.clone());
        let netdev = netdev.map_err(|error| NetError::host("no thread for a back end", error))?;
        lock(&self.0.netdevs).push(netdev);
        Ok(())
    }

    /// Removes a back end. A card that has it has no link from then on.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn remove(&self, id: &str) -> Result<(), NetError> {
        let netdev = self.find(id).ok_or_else(|| NetError::NotFound(id.to_owned()))?;
        lock(&self.0.netdevs).retain(|other| !Arc::ptr_eq(other, &netdev));
        let users = self.nics().into_iter().map(|(_, _, nic)| nic);
        let mut users = users.filter(|nic| nic.netdev().is_some_and(|own| Arc::ptr_eq(&own, &netdev)));
        if let Some(nic) = users.next() {
            nic.lose_netdev();
        }
        Ok(())
    }

    /// The back end of this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Netdev>> {
        lock(&self.0.netdevs).iter().find(|netdev| netdev.id == id).cloned()
    }

    /// Gives a back end to a card; none if another card has it.
    #[must_use]
    pub fn attach(&self, netdev: &Arc<Netdev>) -> Option<Attachment> {
        netdev.attach()
    }

    /// Takes an address for a card: the one that it was given, or the first that no card has.
    #[must_use]
    pub fn claim_mac(&self, given: Option<Mac>) -> MacClaim {
        let mut macs = lock(&self.0.macs);
        let [a, b, c, d, e, first] = Self::FIRST_MAC;
        let mut free = (first..=u8::MAX).map(|last| Mac([a, b, c, d, e, last]));
        let mac = given.or_else(|| free.find(|mac| !macs.contains(mac)));
        let mac = mac.unwrap_or(Mac([a, b, c, d, e, u8::MAX]));
        macs.push(mac);
        MacClaim {
            networks: self.clone(),
            mac,
        }
    }

    /// Adds a card. Its name is its id, or its model and a number.
    #[must_use]
    pub fn register(
        &self,
        model: &'static str,
        id: Option<&str>,
        mac: MacClaim,
        nic: Weak<dyn Nic>,
    ) -> NicRegistration {
        let mut nics = lock(&self.0.nics);
        let name = match id {
            Some(id) => id.to_owned(),
            None => {
                let taken = |name: &String| nics.iter().any(|other| other.name == *name);
                let mut names = (0..).map(|number: usize| format!("{model}.{number}"));
                names.find(|name| !taken(name)).unwrap_or_default()
            }
        };
        let entry = Entry {
            name: name.clone(),
            model,
            nic,
        };
        nics.push(entry);
        NicRegistration { name, mac }
    }

    /// Cards with name and model, the oldest first.
    pub(super) fn nics(&self) -> Vec<(String, &'static str, Arc<dyn Nic>)> {
        let entries = lock(&self.0.nics).clone();
        let alive = |entry: Entry| Some((entry.name, entry.model, entry.nic.upgrade()?));
        entries.into_iter().filter_map(alive).collect()
    }

    fn nic(&self, name: &str) -> Option<Arc<dyn Nic>> {
        let mut nics = self.nics().into_iter();
        nics.find(|(own, ..)| own == name).map(|(_, _, nic)| nic)
    }

    /// Plugs the cable of a card or of a back end in, or out.
    ///
    /// # Errors
    /// There is neither of this name.
    pub fn set_link(&self, name: &str, up: bool) -> Result<(), NetError> {
        if let Some(nic) = self.nic(name) {
            nic.set_link(up);
            return Ok(());
        }
        let netdev = self.find(name).ok_or_else(|| NetError::NotFound(name.to_owned()))?;
        netdev.up().store(up, Ordering::Release);
        for (_, _, nic) in self.nics() {
            if nic.netdev().is_some_and(|own| Arc::ptr_eq(&own, &netdev)) {
                nic.set_link(up);
            }
        }
        Ok(())
    }

    /// Which frames a card takes, or each card, with their names.
    ///
    /// # Errors
    /// There is no card of this name.
    pub fn rx_filters(&self, name: Option<&str>) -> Result<Vec<(String, RxFilter)>, NetError> {
        if let Some(name) = name.filter(|name| self.nic(name).is_none()) {
            return Err(match self.find(name) {
                Some(_) => NetError::NotNic(name.to_owned()),
                None => NetError::NoClient(name.to_owned()),
            });
        }
        let nics = self.nics().into_iter();
        let wanted = nics.filter(|(own, ..)| name.is_none_or(|name| own == name));
        // The newest comes first, as in QEMU.
        let mut filters: Vec<_> = wanted.map(|(own, _, nic)| (own, nic.rx_filter())).collect();
        filters.reverse();
        Ok(filters)
    }

    /// Lets cards tell their networks where they are.
    pub fn announce(&self, schedule: AnnounceSchedule) {
        self.0.announcer.start(self, schedule);
    }

    /// The cards and back ends, for people.
    #[must_use]
    pub fn info(&self) -> String {
        let line = |netdev: &Netdev, index: usize| {
            format!(
                "{}: index={index},type={},{}\n",
                netdev.id,
                netdev.driver,
                netdev.info()
            )
        };
        let (mut text, mut taken) = (String::new(), Vec::new());
        for (name, model, nic) in self.nics() {
            let netdev = nic.netdev();
            let queues = netdev.as_ref().map_or(1, |netdev| netdev.ports().len());
            for index in 0..queues {
                let mac = nic.mac();
                text.push_str(&format!("{name}: index={index},type=nic,model={model},macaddr={mac}\n"));
                if let Some(netdev) = &netdev {
                    text.push_str(&format!(" \\ {}", line(netdev, index)));
                }
            }
            taken.extend(netdev);
        }
        for netdev in lock(&self.0.netdevs).iter() {
            if !taken.iter().any(|other| Arc::ptr_eq(other, netdev)) {
                text.extend((0..netdev.ports().len()).map(|index| line(netdev, index)));
            }
        }
        text
    }
}

impl MacClaim {
    /// The address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }
}

impl Drop for MacClaim {
    fn drop(&mut self) {
        let mut macs = lock(&self.networks.0.macs);
        if let Some(at) = macs.iter().position(|mac| *mac == self.mac) {
            macs.remove(at);
        }
    }
}

impl Drop for NicRegistration {
    fn drop(&mut self) {
        lock(&self.mac.networks.0.nics).retain(|entry| entry.name != self.name);
    }
}

impl std::fmt::Debug for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Networks").field(&lock(&self.0.netdevs)).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
