//! A client: the devices of one plugin.

use std::sync::Arc;

use super::Plugin;
use super::raw::{
    ClientAddressableDevices, ClientCreate, ClientDestroy, ClientPlatformName,
    ClientPlatformVersion, DescriptionId, DescriptionKind, DeviceDescription, Handle,
};
use crate::PjrtError;

/// The devices of one plugin and all that is on them.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) plugin: Arc<Plugin>,
    pub(super) handle: Handle,
    devices: Vec<Device>,
}

/// A device of a client.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(super) handle: Handle,
    /// Its number among all devices of the platform, as programs name it.
    pub(crate) id: i32,
    /// What its vendor calls it.
    pub(crate) kind: String,
}

// SAFETY: the interface's clients and devices may be used from any thread.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}
// SAFETY: as above; a device lives as long as its client.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Client {
    /// Opens the plugin's devices.
    pub(crate) fn open(plugin: &Arc<Plugin>) -> Result<Arc<Client>, PjrtError> {
        let mut create = ClientCreate::new();
        plugin.call(&mut create)?;
        let mut client =
            Client { plugin: Arc::clone(plugin), handle: create.client, devices: Vec::new() };
        client.devices = client.addressable()?;
        Ok(Arc::new(client))
    }

    /// The devices that programs of this process can run on, in order.
    pub(crate) fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// One of them.
    pub(crate) fn device(&self, ordinal: usize) -> Result<&Device, PjrtError> {
        self.devices.get(ordinal).ok_or(PjrtError::NoDevice { ordinal, count: self.devices.len() })
    }

    /// `cpu`, `tpu`, `cuda` …
    pub(crate) fn platform(&self) -> String {
        let mut arguments = ClientPlatformName::new();
        arguments.client = self.handle;
        match self.plugin.call(&mut arguments) {
            Ok(()) => self.plugin.text(arguments.name, arguments.name_size),
            Err(_) => String::new(),
        }
    }

    /// The platform's own version, as it says it.
    pub(crate) fn platform_version(&self) -> String {
        let mut arguments = ClientPlatformVersion::new();
        arguments.client = self.handle;
        match self.plugin.call(&mut arguments) {
            Ok(()) => self.plugin.text(arguments.name, arguments.name_size),
            Err(_) => String::new(),
        }
    }

    fn addressable(&self) -> Result<Vec<Device>, PjrtError> {
        let mut list = ClientAddressableDevices::new();
        list.client = self.handle;
        self.plugin.call(&mut list)?;
        if list.devices.is_null() || list.count == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the plugin gives the address of as many handles, which live as long as the client.
        let handles = unsafe { std::slice::from_raw_parts(list.devices, list.count) };
        handles.iter().map(|&handle| self.describe(handle)).collect()
    }

    fn describe(&self, handle: Handle) -> Result<Device, PjrtError> {
        let mut description = DeviceDescription::new();
        description.device = handle;
        self.plugin.call(&mut description)?;
        let mut id = DescriptionId::new();
        id.description = description.description;
        self.plugin.call(&mut id)?;
        let mut kind = DescriptionKind::new();
        kind.description = description.description;
        self.plugin.call(&mut kind)?;
        Ok(Device { handle, id: id.id, kind: self.plugin.text(kind.name, kind.name_size) })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut destroy = ClientDestroy::new();
        destroy.client = self.handle;
        // Nobody is left who could be told.
        let _ = self.plugin.call(&mut destroy);
    }
}
