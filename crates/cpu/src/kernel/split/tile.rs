//! The tile: 16 or 32 rows by 16 or 32 columns of a product of `f32` in parts, over some steps of 32 along the sum.
//!
//! One step multiplies the parts of both sides in pairs, in an order in which each pair shares a side with the one before: of
//! three parts the six pairs whose products can be seen in an `f32`, of two parts all but the smallest. Sums live in four tile
//! registers; a narrow tile spreads its products over all of them, because one takes three instructions' time until it can be
//! added to again.
#![allow(unsafe_op_in_unsafe_fn, reason = "one contract for the whole tile, stated at `multiply`")]

/// Rows and columns of a tile register.
pub(super) const SIDE: usize = 16;
/// Bytes of a row of a tile register: 32 numbers of 16 bits.
pub(super) const ROW_BYTES: usize = 64;
/// Bytes of a tile register.
pub(super) const TILE_BYTES: usize = SIDE * ROW_BYTES;
/// How many parts an `f32` is split into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Its leading 16 digits: a product is off by up to 2^-16 of itself.
    Two,
    /// All 24 digits: a product is off by less than plain arithmetic rounds.
    Three,
}

impl Parts {
    pub(super) fn count(self) -> usize {
        match self {
            Parts::Two => 2,
            Parts::Three => 3,
        }
    }

    /// The pairs of parts that are multiplied, in the order of the tile: left, right; 0 is the upper part.
    pub(super) fn pairs(self) -> &'static [(usize, usize)] {
        match self {
            Parts::Two => &[(1, 0), (0, 0), (0, 1)],
            Parts::Three => &[(2, 0), (1, 0), (1, 1), (0, 1), (0, 0), (0, 2)],
        }
    }
}

/// What multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The matrix unit of x86 (AMX-BF16).
    Amx,
    /// Plain Rust that does as the matrix unit does: what tests run where there is none.
    Portable,
}

/// Left and right operand of one tile of the result.
pub(super) struct Operands<'a> {
    pub(super) parts: Parts,
    /// First row of the first step's upper part: rows are [`ROW_BYTES`] apart.
    pub(super) left: *const u8,
    /// Bytes from a part to the next.
    pub(super) part: usize,
    /// Where each step's rows are, in bytes from `left`.
    pub(super) steps: &'a [usize],
    /// The right side: for each step, for each part, `columns` tile registers.
    pub(super) right: *const u8,
    /// Tile registers of rows, and of columns: 1 or 2.
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Four tile registers of sums.
#[repr(C)]
pub(super) struct Sums(pub(super) [[[f32; SIDE]; SIDE]; 4]);

impl Engine {
    /// Gets a thread ready for [`multiply`](Engine::multiply); drop what it gives when it has done its tiles.
    pub(super) fn ready(self) -> Ready {
        #[cfg(target_arch = "x86_64")]
        if self == Engine::Amx {
            // SAFETY: an engine of this kind is only made where the unit is (`Engine::detect`).
            unsafe { amx::configure() };
        }
        Ready(self)
    }

    /// The matrix unit of this machine, if it has one that this process may use.
    pub fn detect() -> Option<Engine> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
        {
            static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
            FOUND.get_or_init(amx::present).then_some(Engine::Amx)
        }
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
        None
    }
}

/// Proof that a thread is ready.
pub(super) struct Ready(Engine);

impl Drop for Ready {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Engine::Amx {
            // SAFETY: configured when this was made.
            unsafe { amx::release() };
        }
    }
}

impl Ready {
    /// Writes the tile's sums: of rows `r` and columns `c` of registers to `2 r + c`, where there are two of each.
    ///
    /// # Safety
    /// The operands are readable as they say, all rows of their tile registers included.
    pub(super) unsafe fn multiply(&self, operands: &Operands<'_>, sums: &mut Sums) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Engine::Amx => amx::multiply(operands, sums),
            #[cfg(not(target_arch = "x86_64"))]
            Engine::Amx => portable(operands, sums),
            Engine::Portable => portable(operands, sums),
        }
        match (operands.rows, operands.columns) {
            (2, 1) => sums.join(&[(0, 1), (2, 3)]),
            (1, 2) => sums.join(&[(0, 2), (1, 3)]),
            (1, 1) => sums.join(&[(0, 1), (2, 3), (0, 2)]),
            _ => {}
        }
    }
}

impl Sums {
    pub(super) fn zero() -> Sums {
        Sums([[[0.0; SIDE]; SIDE]; 4])
    }

    /// Adds the second register of each pair to the first.
    fn join(&mut self, pairs: &[(usize, usize)]) {
        for &(to, from) in pairs {
            let from = self.0[from];
            for (to, from) in self.0[to].iter_mut().flatten().zip(from.iter().flatten()) {
                *to += from;
            }
        }
    }
}

/// As the matrix unit does it.
///
/// # Safety
/// As [`Ready::multiply`].
unsafe fn portable(o: &Operands<'_>, sums: &mut Sums) {
    let number = |p: *const u8| {
        // SAFETY: both sides hold whole numbers of 16 bits where this is asked.
        f32::from_bits(u32::from(unsafe { p.cast::<u16>().read_unaligned() }) << 16)
    };
    *sums = Sums::zero();
    for (step, &offset) in o.steps.iter().enumerate() {
        for (turn, &(left, right)) in o.parts.pairs().iter().enumerate() {
            let spread = turn & 1;
            for row in 0..o.rows {
                for column in 0..o.columns {
                    let register = match (o.rows, o.columns) {
                        (2, 2) => 2 * row + column,
                        (2, 1) => 2 * row + spread,
                        (1, 2) => 2 * spread + column,
                        _ => turn & 3,
                    };
                    let a = o.left.add(offset + left * o.part + row * TILE_BYTES);
                    let block = (step * o.parts.count() + right) * o.columns + column;
                    let b = o.right.add(block * TILE_BYTES);
                    for i in 0..SIDE {
                        for j in 0..SIDE {
                            let sum = &mut sums.0[register][i][j];
                            for k in 0..ROW_BYTES / 4 {
                                for pair in 0..2 {
                                    let x = number(a.add(i * ROW_BYTES + k * 4 + pair * 2));
                                    let y = number(b.add(k * ROW_BYTES + j * 4 + pair * 2));
                                    *sum = x.mul_add(y, *sum);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod amx {
    //! The instructions themselves (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18).

    use super::{Operands, Parts, ROW_BYTES, Sums};
    use std::arch::asm;

    /// Whether the processor has tile registers that multiply bfloat16, and the system lets this process use them.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(super) fn present() -> bool {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const BF16: u32 = 1 << 22;
        const TILE: u32 = 1 << 24;
        const ARCH_PRCTL: i64 = 158;
        if crate::detect::Simd::detect() != crate::detect::Simd::Avx512
            || __cpuid(0).eax < 7
            || __cpuid_count(7, 0).edx & (BF16 | TILE) != BF16 | TILE
        {
            return false;
        }
        // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), Documentation/arch/x86/xstate.rst of Linux: the tile registers
        // are saved for a process that has asked.
        let failed: i64;
        // SAFETY: a system call that takes two numbers; the registers it overwrites are named.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => failed, in("rdi") 0x1023, in("rsi") 18,
                out("rcx") _, out("r11") _, options(nostack));
        }
        failed == 0
    }

    #[repr(C, align(64))]
    struct Configuration([u8; 64]);

    /// All eight registers with 16 rows of 64 bytes.
    ///
    /// # Safety
    /// The processor has the unit and the process may use it.
    pub(super) unsafe fn configure() {
        let mut c = Configuration([0; 64]);
        c.0[0] = 1;
        for register in 0..8 {
            c.0[16 + 2 * register] = ROW_BYTES as u8;
            c.0[48 + register] = super::SIDE as u8;
        }
        asm!("ldtilecfg [{}]", in(reg) &raw const c, options(nostack, readonly, preserves_flags));
    }

    /// # Safety
    /// As [`configure`].
    pub(super) unsafe fn release() {
        asm!("tilerelease", options(nostack, preserves_flags));
    }

    /// Loads one or two registers of the left side from the pointer named.
    macro_rules! left {
        (1, $from:literal) => {
            concat!("tileloadd tmm4, [{", $from, "} + {row}*1]")
        };
        (2, $from:literal) => {
            concat!(left!(1, $from), "\ntileloadd tmm5, [{", $from, "} + {row}*1 + 1024]")
        };
    }

    /// Loads one or two registers of a part of the right side.
    macro_rules! right {
        (1, $part:literal) => {
            concat!("tileloadd tmm6, [{right} + {row}*1 + ", $part, "*1024]")
        };
        (2, $part:literal) => {
            concat!(
                "tileloadd tmm6, [{right} + {row}*1 + ",
                $part,
                "*2048]\n",
                "tileloadd tmm7, [{right} + {row}*1 + ",
                $part,
                "*2048 + 1024]"
            )
        };
    }

    /// The products of a pair of parts: sums, left, right.
    macro_rules! products {
        ($(($sum:literal, $left:literal, $right:literal))+) => {
            concat!($("tdpbf16ps tmm", $sum, ", tmm", $left, ", tmm", $right, "\n"),+)
        };
    }

    /// The loop over the steps: what a step does with its parts, of which `$bytes` lie on the right for one column.
    macro_rules! tile {
        ($o:expr, $sums:expr, $bytes:literal, $columns:tt, $($step:expr),+) => {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "test {count}, {count}",
                "jz 3f",
                "2:",
                "mov {high}, [{steps}]",
                "add {high}, {left}",
                "lea {middle}, [{high} + {part}]",
                "lea {low}, [{middle} + {part}]",
                $($step),+,
                "add {steps}, 8",
                concat!("add {right}, ", $bytes, "*", $columns),
                "dec {count}",
                "jnz 2b",
                "3:",
                "tilestored [{sums} + {row}*1], tmm0",
                "tilestored [{sums} + {row}*1 + 1024], tmm1",
                "tilestored [{sums} + {row}*1 + 2048], tmm2",
                "tilestored [{sums} + {row}*1 + 3072], tmm3",
                left = in(reg) $o.left,
                part = in(reg) $o.part,
                row = in(reg) ROW_BYTES,
                steps = inout(reg) $o.steps.as_ptr() => _,
                right = inout(reg) $o.right => _,
                count = inout(reg) $o.steps.len() => _,
                sums = in(reg) std::ptr::from_mut($sums),
                high = out(reg) _,
                middle = out(reg) _,
                low = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }

    /// The tile of so many registers of rows and columns, by the number of parts; its products in turn, twice three of them.
    macro_rules! tiles {
        ($o:expr, $sums:expr, $rows:tt, $columns:tt, $a:expr, $b:expr, $c:expr, $d:expr) => {
            match $o.parts {
                Parts::Two => tile!(
                    $o,
                    $sums,
                    "2048",
                    $columns,
                    left!($rows, "middle"),
                    right!($columns, "0"),
                    $a,
                    left!($rows, "high"),
                    $b,
                    right!($columns, "1"),
                    $c
                ),
                Parts::Three => tile!(
                    $o,
                    $sums,
                    "3072",
                    $columns,
                    left!($rows, "low"),
                    right!($columns, "0"),
                    $a,
                    left!($rows, "middle"),
                    $b,
                    right!($columns, "1"),
                    $c,
                    left!($rows, "high"),
                    $d,
                    right!($columns, "0"),
                    $a,
                    right!($columns, "2"),
                    $b
                ),
            }
        };
    }

    /// As `Ready::multiply`.
    ///
    /// # Safety
    /// As there, and the thread is configured.
    pub(super) unsafe fn multiply(o: &Operands<'_>, sums: &mut Sums) {
        match (o.rows, o.columns) {
            (2, 2) => {
                macro_rules! all {
                    () => {
                        products!((0, 4, 6)(1, 4, 7)(2, 5, 6)(3, 5, 7))
                    };
                }
                tiles!(o, sums, 2, 2, all!(), all!(), all!(), all!());
            }
            (2, 1) => {
                macro_rules! even {
                    () => {
                        products!((0, 4, 6)(2, 5, 6))
                    };
                }
                macro_rules! odd {
                    () => {
                        products!((1, 4, 6)(3, 5, 6))
                    };
                }
                tiles!(o, sums, 2, 1, even!(), odd!(), even!(), odd!());
            }
            (1, 2) => {
                macro_rules! even {
                    () => {
                        products!((0, 4, 6)(1, 4, 7))
                    };
                }
                macro_rules! odd {
                    () => {
                        products!((2, 4, 6)(3, 4, 7))
                    };
                }
                tiles!(o, sums, 1, 2, even!(), odd!(), even!(), odd!());
            }
            _ => tiles!(
                o,
                sums,
                1,
                1,
                products!((0, 4, 6)),
                products!((1, 4, 6)),
                products!((2, 4, 6)),
                products!((3, 4, 6))
            ),
        }
    }
}
