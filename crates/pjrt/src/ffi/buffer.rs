//! Arrays on a device.

use std::sync::Arc;

use super::raw::{
    BufferDestroy, BufferDimensions, BufferElement, BufferFromHost, BufferToHost, Handle,
};
use super::{Client, Device};
use crate::PjrtError;
use crate::element::Element;

/// The plugin copies the data before the call returns.
const COPIED_DURING_CALL: i32 = 0;

/// An array on a device; freed when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    client: Arc<Client>,
    pub(super) handle: Handle,
}

// SAFETY: the interface's buffers may be used from any thread.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn from_handle(client: &Arc<Client>, handle: Handle) -> Buffer {
        Buffer { client: Arc::clone(client), handle }
    }

    /// Copies row-major elements to a device. `data` holds as many bytes as the type and shape take.
    pub(crate) fn upload(
        client: &Arc<Client>,
        device: &Device,
        element: Element,
        shape: &[usize],
        data: &[u8],
    ) -> Result<Buffer, PjrtError> {
        let expected = shape.iter().product::<usize>() * element.bytes();
        if data.len() != expected {
            return Err(PjrtError::Result {
                found: format!("{} bytes", data.len()),
                expected: format!("{expected} bytes"),
            });
        }
        let dims: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let mut arguments = BufferFromHost::new();
        arguments.client = client.handle;
        arguments.data = data.as_ptr().cast();
        arguments.element = element.code();
        arguments.dims = dims.as_ptr();
        arguments.dim_count = dims.len();
        arguments.semantics = COPIED_DURING_CALL;
        arguments.device = device.handle;
        client.plugin.call(&mut arguments)?;
        let buffer = Buffer::from_handle(client, arguments.buffer);
        client.plugin.wait(arguments.done)?;
        Ok(buffer)
    }

    /// The element type and shape, as the device has them.
    pub(crate) fn describe(&self) -> Result<(i32, Vec<usize>), PjrtError> {
        let mut element = BufferElement::new();
        element.buffer = self.handle;
        self.client.plugin.call(&mut element)?;
        let mut dims = BufferDimensions::new();
        dims.buffer = self.handle;
        self.client.plugin.call(&mut dims)?;
        let shape = if dims.dims.is_null() || dims.count == 0 {
            Vec::new()
        } else {
            // SAFETY: the plugin gives the address of as many sizes, which live as long as the buffer.
            unsafe { std::slice::from_raw_parts(dims.dims, dims.count) }
                .iter()
                .map(|&n| n as usize)
                .collect()
        };
        Ok((element.element, shape))
    }

    /// Begins to copy the elements into `destination`, row-major; see [`Download::wait`].
    pub(crate) fn download<'a>(
        &'a self,
        destination: &'a mut [u8],
    ) -> Result<Download<'a>, PjrtError> {
        if destination.is_empty() {
            return Ok(Download { buffer: self, event: std::ptr::null_mut(), destination });
        }
        let mut arguments = BufferToHost::new();
        arguments.buffer = self.handle;
        arguments.destination = destination.as_mut_ptr().cast();
        arguments.size = destination.len();
        self.client.plugin.call(&mut arguments)?;
        Ok(Download { buffer: self, event: arguments.event, destination })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut destroy = BufferDestroy::new();
        destroy.buffer = self.handle;
        // Nobody is left who could be told.
        let _ = self.client.plugin.call(&mut destroy);
    }
}

/// A copy to the host that is on its way. It keeps its destination borrowed, and waits when it is dropped.
pub(crate) struct Download<'a> {
    buffer: &'a Buffer,
    event: Handle,
    #[expect(dead_code, reason = "borrowed for as long as the device may write")]
    destination: &'a mut [u8],
}

impl Download<'_> {
    /// Waits until all bytes are there.
    pub(crate) fn wait(mut self) -> Result<(), PjrtError> {
        let event = std::mem::replace(&mut self.event, std::ptr::null_mut());
        self.buffer.client.plugin.wait(event)
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        // Only reached with an event where an earlier copy failed; nobody asks for this one any more.
        let _ = self.buffer.client.plugin.wait(self.event);
    }
}
