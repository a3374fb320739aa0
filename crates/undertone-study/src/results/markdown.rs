//! The results as Markdown.

use undertone_report::{
    attribution_table, comparison_table, decisions_in_words, evidence_table, heterogeneity_in_words, labels_table,
    metrics_table, one_line,
};

use super::Results;

impl Results {
    /// `report.md`. Names and words from data and models are text in it, never markup.
    pub(crate) fn markdown(&self) -> String {
        without_markup(&self.marked_down())
    }

    fn marked_down(&self) -> String {
        let mut text = format!("# {}\n\n{}\n\n", self.name, one_line(&self.question));
        for warning in &self.warnings {
            text += &format!("> **{}**\n\n", one_line(warning));
        }
        for (comparison, verdict) in self.comparisons.iter().zip(&self.verdicts) {
            text += &format!("- `{}` − `{}`: {verdict}\n", comparison.arm_b, comparison.arm_a);
        }
        for sentence in decisions_in_words(&self.comparisons) {
            text += &format!("\n{sentence}\n");
        }
        text += "\n## Setting\n\n";
        for line in self.setting.iter().chain(&self.coverage_lines()) {
            text += &format!("- {}\n", one_line(line));
        }
        text += "\n## Comparisons\n\n";
        for table in self.summaries() {
            text += &format!("{}\n", table.markdown());
        }
        for sensitivity in &self.sensitivities {
            text += &format!("{}\n", sensitivity.table().markdown());
        }
        text += "## Every arm\n\n";
        text += &metrics_table(&self.metrics).markdown();
        if let Some(table) = labels_table(&self.metrics) {
            text += &format!("\n{}", table.markdown());
        }
        let others = self.other_metrics();
        if !others.is_empty() {
            text += "\n## Other metrics\n";
        }
        for table in others {
            text += &format!("\n{}", table.markdown());
        }
        if let Some(table) = attribution_table(&self.attribution) {
            text += &format!("\n{}", table.markdown());
        }
        if let Some(users) = &self.heterogeneity {
            text += &format!("\n{}\n", heterogeneity_in_words(users));
        }
        text += "\n## Where thoughts help\n\n";
        for breakdown in &self.breakdowns {
            text += &format!("{}\n", breakdown.table().markdown());
        }
        text += "\n## Every comparison\n\n";
        for (comparison, verdict) in self.all_comparisons() {
            text += &format!("{}\n", comparison_table(comparison, verdict).markdown());
            text += &format!("{}\n", evidence_table(comparison).markdown());
        }
        text
    }
}

/// Markdown without HTML, links and images, which nothing in a report needs.
fn without_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace("](", "]\\(").replace("![", "!\\[")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_links_and_images_are_text() {
        assert_eq!(
            without_markup("a <script>x</script> & ![i](http://x) [l](y) 1 > 0 `p`"),
            "a &lt;script>x&lt;/script> &amp; !\\[i]\\(http://x) [l]\\(y) 1 > 0 `p`"
        );
    }
}
