//! Opens the HTML report in a headless browser, uses all of it, and keeps pictures to look at.
//!
//! What only a browser can tell: no script error, nothing blocked or fetched, every chart of every chip drawn, tables
//! in order, no page wider than its window, and records that come back from the page as they went in.

use crate::{process, workspace};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The model whose report is looked at
    #[arg(default_value = "zoo:resnet-50")]
    model: String,
    /// The browser; found on PATH when absent
    #[arg(long)]
    browser: Option<PathBuf>,
    #[command(flatten)]
    binary: workspace::Binary,
}

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Windows looked at: width and height.
const WINDOWS: [(u32, u32); 2] = [(390, 7000), (1400, 4200)];

/// What the page's script found; see `report_look.js`.
#[derive(Deserialize)]
struct Found {
    faults: Vec<String>,
    resources: usize,
    lines: String,
    rows: usize,
    layers: usize,
    overflow: i64,
    texts: Vec<String>,
}

/// Numbers that the page's script must write as the tables do.
const PROBES: [(f64, &str, &str, &str); 17] = [
    (0.001_234, "s", "small-prefixed", "1.23 ms"),
    (4200.0, "s", "small-prefixed", "4,200 s"),
    (61e-6, "s", "small-prefixed", "61 µs"),
    (0.000_999_9, "s", "small-prefixed", "1.00 ms"),
    (2e-18, "s", "small-prefixed", "0.00200 fs"),
    (95.23, "/s", "prefixed", "95.2/s"),
    (95_230.0, "/s", "prefixed", "95.2 k/s"),
    (2.039e12, "B/s", "prefixed", "2.04 TB/s"),
    (19.49e12, "OP/s", "prefixed", "19.5 TOP/s"),
    (1.5e22, "OP/s", "prefixed", "15,000 EOP/s"),
    (0.07, "W", "prefixed", "70 mW"),
    (46_225.0, "mm²", "plain", "46,225 mm²"),
    (0.431, "%", "percent", "43.1 %"),
    (3.93, "/h", "dollars", "$3.93/h"),
    (30_678.0, "", "dollars", "$30,678"),
    (0.0035, "", "dollars", "$0.00350"),
    (9.996, "", "plain", "10.0"),
];

/// Look at the report of a model over all chips; skips, saying so, where there is no browser.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Some(browser) = options.browser.clone().or_else(find_browser) else {
        println!("skipped: no browser on PATH ({})", BROWSERS.join(", "));
        return Ok(());
    };
    let folder = workspace::path("target/report-look");
    std::fs::create_dir_all(&folder)?;
    let (records, page) = (folder.join("records.jsonl"), folder.join("report.html"));
    let binary = options.binary.path()?;
    let mut compare = process::command(&binary);
    compare.args(["compare", &options.model, "--estimate", "--json", "--layers"]);
    std::fs::write(&records, process::printed(&mut compare)?)?;
    let mut draw = process::command(&binary);
    process::printed(draw.arg("compare").arg(&records).arg("--html").arg(&page))?;
    let text = std::fs::read_to_string(&page)?;
    println!("{}: {:.2} MB", workspace::relative(&page), text.len() as f64 / 1e6);

    let probe = folder.join("probe.html");
    std::fs::write(&probe, with_probe(&text)?)?;
    for (width, height) in WINDOWS {
        check(&browser, &probe, width, height, &std::fs::read_to_string(&records)?)?;
        for dark in [false, true] {
            let name = format!("{width}-{}.png", if dark { "dark" } else { "light" });
            picture(&browser, &page, &folder.join(&name), (width, height), dark)?;
            println!("{}", workspace::relative(&folder.join(name)));
        }
    }
    let pdf = folder.join("print.pdf");
    let mut print = headless(&browser, false);
    print.arg("--no-pdf-header-footer").arg(format!("--print-to-pdf={}", pdf.display()));
    process::printed(print.arg(address(&page)))?;
    println!("{}", workspace::relative(&pdf));
    Ok(())
}

fn find_browser() -> Option<PathBuf> {
    let found = |name: &&str| process::exists(Command::new(name).arg("--version"));
    BROWSERS.into_iter().find(found).map(PathBuf::from)
}

fn address(page: &Path) -> String {
    format!("file://{}", page.display())
}

fn headless(browser: &Path, dark: bool) -> Command {
    let mut command = process::command(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
    command.args(["--disable-background-networking", "--virtual-time-budget=20000"]);
    // Colors that people who prefer them dark are given: 0 is dark, 1 is light.
    command.arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)));
    command
}

/// The page with a script before its own that collects faults, and one after it that uses the page.
fn with_probe(page: &str) -> Result<String> {
    let collect = "<script>window.faults = [];\
        addEventListener('error', (e) => faults.push(`error: ${e.message}`));\
        addEventListener('securitypolicyviolation', (e) => faults.push(`blocked: ${e.blockedURI}`));</script>";
    let probes: Vec<_> =
        PROBES.iter().map(|(value, symbol, style, _)| (value, symbol, style)).collect();
    let using = include_str!("report_look.js");
    let using =
        format!("<script>const PROBES = {};\n{using}</script>", serde_json::to_string(&probes)?);
    let data = "<script type=\"application/json\" id=\"data\">";
    if page.matches(data).count() != 1 {
        bail!("the page's data were not found where they are expected");
    }
    Ok(page
        .replace(data, &format!("{collect}{data}"))
        .replace("</body>", &format!("{using}</body>")))
}

/// Uses the page in a frame of a width; every fault is an error.
fn check(browser: &Path, probe: &Path, width: u32, height: u32, records: &str) -> Result<()> {
    let around = framed(probe, width, height)?;
    let mut command = headless(browser, false);
    command.arg(format!("--window-size={},{height}", width.max(500)));
    command.args(["--enable-logging=stderr", "--dump-dom"]).arg(address(&around));
    let output = process::output(&mut command)?;
    let log = String::from_utf8_lossy(&output.stderr);
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    if !console.is_empty() {
        bail!("the console has\n{}", console.join("\n"));
    }
    let page = String::from_utf8_lossy(&output.stdout);
    let found = page.split_once("id=\"look\">").and_then(|(_, rest)| rest.split_once("</script>"));
    let (found, _) = found.context("the page's use did not come to its end")?;
    let found: Found = serde_json::from_str(found).context("reading what was found")?;
    let mut faults = found.faults;
    if found.resources > 0 {
        faults.push(format!("{} things were fetched", found.resources));
    }
    if found.overflow > 0 {
        faults.push(format!("the page is {} pixels wider than its window", found.overflow));
    }
    for ((value, symbol, _, expected), text) in PROBES.iter().zip(&found.texts) {
        if text != expected {
            faults.push(format!("{value} {symbol} is written `{text}`, not `{expected}`"));
        }
    }
    let values = |text: &str| -> Result<Vec<serde_json::Value>> {
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let (given, back) = (values(records)?, values(&found.lines)?);
    if given.len() != back.len() {
        faults.push(format!("{} records came back of {}", back.len(), given.len()));
    }
    for (given, back) in given.iter().zip(&back) {
        if !same(given, back) {
            faults.push(format!("the record of {} came back changed", given["chip"]));
        }
    }
    if !faults.is_empty() {
        faults.truncate(20);
        bail!("at {width} pixels:\n{}", faults.join("\n"));
    }
    println!(
        "{width} px: {} rows, {} layers drawn, records come back as they were",
        found.rows, found.layers
    );
    Ok(())
}

/// Equal, where a number may be written as whole on one side only.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) => a.as_f64() == b.as_f64(),
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// A file beside `page` with the page in a frame: a browser's window does not go below 500 pixels. What the page tells
/// the file around it is kept there, where the browser's dump has it.
fn framed(page: &Path, width: u32, height: u32) -> Result<PathBuf> {
    let around = page.with_file_name("frame.html");
    let name = page.file_name().and_then(|name| name.to_str()).context("a page with a name")?;
    let markup = format!(
        "<!doctype html><style>:root {{ color-scheme: light dark }} body {{ margin: 0 }} \
         iframe {{ border: 0; width: {width}px; height: {height}px }}</style>\
         <script type=\"application/json\" id=\"look\"></script>\
         <script>addEventListener('message', (e) => {{ document.getElementById('look').textContent = e.data; }});</script>\
         <iframe src=\"{name}\"></iframe>"
    );
    std::fs::write(&around, markup)?;
    Ok(around)
}

/// A picture of the whole page.
fn picture(
    browser: &Path,
    page: &Path,
    out: &Path,
    (width, height): (u32, u32),
    dark: bool,
) -> Result<()> {
    let around = framed(page, width, height)?;
    let mut command = headless(browser, dark);
    command.arg(format!("--window-size={},{height}", width.max(500)));
    command.arg(format!("--screenshot={}", out.display())).arg(address(&around));
    process::printed(&mut command)?;
    if !out.exists() {
        bail!("the browser wrote no picture");
    }
    Ok(())
}
