//! A thread pool for kernels: hands out the tasks of one loop, spins briefly between loops, then parks.
//!
//! rayon allocates and steals per call; a kernel of 20 µs cannot pay for that. Here one call publishes one job in a single atomic
//! word, workers join it while it is open, and the caller works too and never waits for a worker that did not join. So a worker
//! that other load keeps off its core costs nothing.
//!
//! v1: one word holds (epoch, open, joined); tasks by a shared counter. Round trip measured by `examples/kernel_bench.rs`.
//! v2: each group of threads has a run of tasks of its own and helps the others when that is done. From loop to loop a thread so
//! meets the same part of the data, in its own cache: lines that another core has written come at 13 ns each.
#![allow(
    unsafe_code,
    reason = "the job is borrowed from the caller's stack for the length of the call"
)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

type Job = *const (dyn Fn(usize, usize) + Sync);

/// Bit of the state word that says the job may still be joined; below it the number of workers inside.
const OPEN: u64 = 1 << 31;
const JOINED: u64 = OPEN - 1;
/// Groups of threads with tasks of their own, at most: each costs a store a loop.
const GROUPS: usize = 16;
/// Polls of the state word before a worker parks: some tens of microseconds.
const SPINS: u32 = 2_000;

/// On its own cache lines, so that claiming tasks does not disturb the waiting.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    /// epoch << 32 | open | joined.
    state: Padded<AtomicU64>,
    /// Next task to claim in each group's run of tasks.
    next: Vec<Padded<AtomicUsize>>,
    tasks: AtomicUsize,
    threads: usize,
    /// Written only by the caller that holds `busy`, while the job is closed and nobody is joined.
    job: UnsafeCell<Option<Job>>,
    busy: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is only written between a close with nobody joined and the next open, and only read by joined workers; the state
// word orders the two. Everything else is `Sync` by itself.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` closure and is never used after `parallel_for` returns.
unsafe impl Send for Shared {}

/// A fixed set of threads that run loops together. Share it by `&` or `Arc`; dropping it joins the threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller included (so 1 starts none), not bound to cores. A thread the system refuses to
    /// start is left out; [`Pool::threads`] says how many there are.
    pub fn new(threads: usize) -> Self {
        Self::start(threads, false)
    }

    /// As [`Pool::new`], with worker `i` bound to the `i`-th core this process may use (Linux; elsewhere the same as `new`).
    /// For machines without other load.
    pub fn pinned(threads: usize) -> Self {
        Self::start(threads, true)
    }

    fn start(threads: usize, pin: bool) -> Self {
        let threads = threads.clamp(1, 1024);
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(0)),
            next: (0..threads.clamp(1, GROUPS)).map(|_| Padded(AtomicUsize::new(0))).collect(),
            tasks: AtomicUsize::new(0),
            threads,
            job: UnsafeCell::new(None),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let mut workers = Vec::new();
        for index in 1..threads {
            let worker = Arc::clone(&shared);
            let body = move || {
                if pin {
                    pin_to_core(index);
                }
                work(&worker, index);
            };
            match std::thread::Builder::new().name(format!("anychip-{index}")).spawn(body) {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
        Self { shared, workers }
    }

    /// Threads that take part in a loop, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(task, thread)` once for each `task` in `0..tasks`, `thread < self.threads()` telling the threads of one call apart.
    /// Thread `t` of `n` begins with the `t`-th of `n` equal runs of the tasks.
    ///
    /// Returns when all calls have returned. A panic in any of them is raised here after the others have finished. When the
    /// pool is already running a loop (another session, or a nested call), the caller does the whole loop itself as thread 0.
    pub fn parallel_for<F: Fn(usize, usize) + Sync>(&self, tasks: usize, body: F) {
        let shared = &*self.shared;
        if tasks <= 1 || self.workers.is_empty() || shared.busy.swap(true, Ordering::Acquire) {
            for task in 0..tasks {
                body(task, 0);
            }
            return;
        }
        let erased: &(dyn Fn(usize, usize) + Sync) = &body;
        // SAFETY: only the lifetime changes. `Close` below, which runs on unwinding too, waits until no worker is inside and none
        // can join, so the pointer is not used after `body` is gone.
        let job = unsafe {
            std::mem::transmute::<
                &(dyn Fn(usize, usize) + Sync),
                &'static (dyn Fn(usize, usize) + Sync),
            >(erased)
        };
        // SAFETY: `busy` is ours and the previous job is closed with nobody joined.
        unsafe { *shared.job.get() = Some(std::ptr::from_ref(job)) };
        shared.tasks.store(tasks, Ordering::Relaxed);
        for (group, next) in shared.next.iter().enumerate() {
            next.0.store(shared.run_of(group, tasks).start, Ordering::Relaxed);
        }
        let epoch = (shared.state.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Sequentially consistent, as is the sleepers' side: either they see the new job or we see them asleep.
        shared.state.0.store((epoch << 32) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        let close = Close(shared);
        run_tasks(shared, &body, 0);
        drop(close);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker only ends by returning; its tasks' panics were caught.
            drop(worker.join());
        }
    }
}

impl Shared {
    /// The tasks that group `group` begins with.
    fn run_of(&self, group: usize, tasks: usize) -> Range<usize> {
        let at = |group: usize| group * tasks / self.next.len();
        at(group)..at(group + 1)
    }
}

/// Claims tasks until none is left, those of the thread's own group first; the first panic is kept and stops the claiming.
fn run_tasks<F: Fn(usize, usize) + Sync + ?Sized>(shared: &Shared, body: &F, thread: usize) {
    let tasks = shared.tasks.load(Ordering::Relaxed);
    let groups = shared.next.len();
    let own = thread * groups / shared.threads;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for group in (own..groups).chain(0..own) {
            let end = shared.run_of(group, tasks).end;
            // A look before the claim: a finished run costs its line no change of owner.
            while shared.next[group].0.load(Ordering::Relaxed) < end {
                let task = shared.next[group].0.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                body(task, thread);
            }
        }
    }));
    if let Err(panic) = outcome {
        for next in &shared.next {
            next.0.store(tasks, Ordering::Relaxed);
        }
        let mut slot = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(panic);
    }
}

/// Ends a job: nobody joins any more, and those inside have left.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.state.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut polls = 0u32;
        while self.0.state.0.load(Ordering::Acquire) & JOINED != 0 {
            polls += 1;
            if polls < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// The life of a worker.
fn work(shared: &Shared, thread: usize) {
    let mut seen = 0u64;
    loop {
        let Some(mut state) = wait_for_job(shared, seen) else { return };
        seen = state >> 32;
        while state >> 32 == seen && state & OPEN != 0 {
            match shared.state.0.compare_exchange_weak(
                state,
                state + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    // SAFETY: joined while open, so the caller keeps the closure alive until we leave.
                    if let Some(job) = unsafe { *shared.job.get() } {
                        // SAFETY: as above.
                        run_tasks(shared, unsafe { &*job }, thread);
                    }
                    shared.state.0.fetch_sub(1, Ordering::Release);
                    break;
                }
                Err(now) => state = now,
            }
        }
    }
}

/// The state word once its epoch differs from `seen`; `None` when the pool is being dropped.
fn wait_for_job(shared: &Shared, seen: u64) -> Option<u64> {
    let mut polls = 0u32;
    loop {
        let state = shared.state.0.load(Ordering::SeqCst);
        if state >> 32 != seen {
            return Some(state);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        polls += 1;
        if polls < SPINS {
            std::hint::spin_loop();
            continue;
        }
        polls = 0;
        shared.sleepers.fetch_add(1, Ordering::SeqCst);
        let guard = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = shared.state.0.load(Ordering::SeqCst) >> 32 == seen
            && !shared.stop.load(Ordering::SeqCst);
        if idle {
            drop(shared.wake.wait(guard).unwrap_or_else(PoisonError::into_inner));
        } else {
            drop(guard);
        }
        shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Binds the calling thread to the `index`-th core of those it may run on; nothing happens if the system refuses.
#[cfg(target_os = "linux")]
fn pin_to_core(index: usize) {
    const WORDS: usize = 16;
    unsafe extern "C" {
        fn sched_getaffinity(pid: i32, size: usize, mask: *mut u64) -> i32;
        fn sched_setaffinity(pid: i32, size: usize, mask: *const u64) -> i32;
    }
    let mut mask = [0u64; WORDS];
    // SAFETY: the mask is `WORDS * 8` bytes long, as stated; pid 0 is the calling thread (sched_setaffinity(2)).
    if unsafe { sched_getaffinity(0, WORDS * 8, mask.as_mut_ptr()) } != 0 {
        return;
    }
    let allowed: Vec<usize> =
        (0..WORDS * 64).filter(|&core| mask[core / 64] >> (core % 64) & 1 == 1).collect();
    if allowed.is_empty() {
        return;
    }
    let core = allowed[index % allowed.len()];
    let mut one = [0u64; WORDS];
    one[core / 64] = 1 << (core % 64);
    // SAFETY: as above.
    unsafe { sched_setaffinity(0, WORDS * 8, one.as_ptr()) };
}

#[cfg(not(target_os = "linux"))]
fn pin_to_core(_index: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loops of a test; few in Miri, which also tries other interleavings than a machine does.
    const ROUNDS: usize = if cfg!(miri) { 20 } else { 2000 };

    #[test]
    fn each_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100, ROUNDS / 2] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.parallel_for(tasks, |task, thread| {
                    assert!(thread < pool.threads());
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_loops_after_parking() {
        let pool = Pool::pinned(4);
        let sum = AtomicUsize::new(0);
        for round in 0..ROUNDS {
            if round % (ROUNDS / 4) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            pool.parallel_for(5, |task, _| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.load(Ordering::Relaxed), ROUNDS * 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(3);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.parallel_for(50, |task, _| assert_ne!(task, 33, "task 33"));
        }));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.parallel_for(10, |task, _| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 45);
    }

    #[test]
    fn nested_and_concurrent_loops_finish() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS / 10 {
                        pool.parallel_for(4, |_, _| {
                            pool.parallel_for(3, |task, _| {
                                sum.fetch_add(task, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 3 * (ROUNDS / 10) * 4 * 3);
    }
}
