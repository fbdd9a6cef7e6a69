//! Draws the charts and fills the report from `reports/data/*.csv`, without measuring anything.

use std::fs;
use std::process::ExitCode;

use benches::backend::Failure;
use benches::chart::figures::figures;
use benches::chat_report;
use benches::collect::{read_all, reports_folder};
use benches::conformance::table;
use benches::report::{REPORTS, pieces, publish, unanswered};

fn main() -> ExitCode {
    match render().and_then(|summary| chat_report::render(&reports_folder(), summary)) {
        Ok(summary) => {
            println!("render: {summary}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("render: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn render() -> Result<String, Failure> {
    let reports = reports_folder();
    let answers = table::publish(&reports)?;
    let records = read_all(&reports)?;
    if records.is_empty() {
        return Err(Failure::new(format!(
            "there is no data in {}; run cargo bench first",
            reports.join("data").display()
        )));
    }
    let figures = figures(&records)?;
    let pieces = pieces(&records, &figures);
    publish(&reports, &figures, &pieces)?;
    let text: String = REPORTS.iter().filter_map(|name| fs::read_to_string(reports.join(name)).ok()).collect();
    let missing = unanswered(&text, &pieces);
    let missing =
        if missing.is_empty() { String::new() } else { format!("; nothing was measured for {}", missing.join(", ")) };
    let counts = (records.len(), figures.len(), pieces.len());
    Ok(format!("{} records, {} charts, {} pieces of text, {answers} answers{missing}", counts.0, counts.1, counts.2))
}
