//! Maps a device name of the configuration to a Burn device.
//!
//! | name | cargo feature | what it is |
//! | --- | --- | --- |
//! | `flex` | always | pure Rust on the CPU; needs nothing installed |
//! | `libtorch` | `libtorch` | burn-tch on the CPU; `make libtorch` prepares the library |
//! | `cuda` | `cuda` | the first NVIDIA GPU |
//! | `wgpu` | `wgpu` | the default GPU by Vulkan, Metal or DirectX |

use std::fmt;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// A device by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceName {
    /// Pure Rust on the CPU.
    #[default]
    Flex,
    /// LibTorch on the CPU.
    Libtorch,
    /// The first NVIDIA GPU.
    Cuda,
    /// The default GPU of WebGPU.
    Wgpu,
}

/// The program was built without the cargo feature that a device needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this `undertone` was built without the device `{0}`")]
pub struct NotBuilt(pub DeviceName);

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flex => "flex",
            Self::Libtorch => "libtorch",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        })
    }
}

impl DeviceName {
    /// Whether it computes in the machine's own memory.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::Libtorch)
    }

    /// The devices this program was built with.
    pub fn built() -> Vec<Self> {
        [Self::Flex, Self::Libtorch, Self::Cuda, Self::Wgpu].into_iter().filter(|name| name.open().is_ok()).collect()
    }

    /// The device, without autodiff.
    ///
    /// # Errors
    /// The cargo feature of this device was off at build time.
    pub fn open(self) -> Result<Device, NotBuilt> {
        match self {
            Self::Flex => Ok(Device::flex()),
            // Burn deprecates it in favour of its GPU backends.
            #[cfg(feature = "libtorch")]
            #[allow(deprecated)]
            Self::Libtorch => Ok(Device::libtorch()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[allow(unreachable_patterns)]
            absent => Err(NotBuilt(absent)),
        }
    }
}
