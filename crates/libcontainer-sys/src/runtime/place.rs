//! Where a container's limits are: its cgroup, the scope that systemd has made for it where its driver was asked for, and its
//! class of service.

use super::systemd::{Keeper, Unit};
use crate::cgroup::{self, Cgroup};
use crate::failure::Result;
use crate::resctrl;
use crate::spec::{Identity, Resources};

pub struct Place {
    pub group: Box<dyn Cgroup>,
    pub unit: Option<Unit>,
    pub class: Option<resctrl::Group>,
}

impl Place {
    /// What is given holds the place until the first process is in it.
    pub fn create(&self, identity: &Identity) -> Result<Option<Keeper>> {
        let start = |unit: &Unit| unit.start(&identity.id, &identity.annotations);
        let keeper = self.unit.as_ref().map(start).transpose()?;
        self.group.create()?;
        self.class.as_ref().map_or(Ok(()), resctrl::Group::create)?;
        Ok(keeper)
    }

    /// What puts processes into it, or below it, where its owner may not; None: there is nobody to ask.
    pub fn attach(&self, below: &str) -> Option<Box<dyn Fn(i32) -> Result<()>>> {
        let unit = self.unit.clone().filter(Unit::is_users)?;
        let below = format!("/{}", below.trim_matches('/'));
        Some(Box::new(move |pid| unit.attach(&below, pid)))
    }

    /// To be called for a process before it forks.
    pub fn join_class(&self, pid: i32) -> Result<()> {
        self.class.as_ref().map_or(Ok(()), |class| class.join(pid))
    }

    pub fn set(&self, resources: &Resources) -> Result<()> {
        if let Some(unit) = &self.unit {
            // systemd does not ask
            let usage = || self.group.stats().map_or(0, |stats| stats.memory.usage);
            cgroup::refuse_limits_below_usage(&resources.memory, usage)?;
            unit.set(resources)?;
        }
        self.group.set(resources)
    }

    /// Idempotent. Fails while processes are inside.
    pub fn remove(&self) -> Result<()> {
        self.unit.as_ref().map_or(Ok(()), Unit::stop)?;
        self.group.remove()?;
        self.class.as_ref().map_or(Ok(()), resctrl::Group::remove)
    }
}
