//! Arms and experiments that follow from an experiment: with a timing margin, with another length of replies, and its
//! stages.

use undertone_data::{Access, Timing};

use super::{
    Arm, DataSection, DeclaredComparison, EvaluationSection, Experiment, Folds, Paths, ReplyTokens, ReplyTokensList,
    Seeds, SplitSection, StageSection,
};
use crate::names::{REPLIES, STAGES};

impl Experiment {
    /// The arms a and b of the primary comparison: the one declared as primary, or the first.
    pub fn primary_pair(&self) -> [Option<&Arm>; 2] {
        let declared = &self.comparisons;
        match declared.iter().find(|one| one.primary).or(declared.first()) {
            Some(DeclaredComparison { a, b, .. }) => [a, b].map(|name| self.arms.iter().find(|arm| arm.name == *name)),
            None => [self.arms.first(), self.arms.get(1)],
        }
    }

    /// The two arms of the primary comparison, for each of `evaluation.timing_margins_seconds`: the same models, shown
    /// thoughts that are older by more than the margin. An arm that the margin does not change stands for itself.
    pub fn margin_pairs(&self) -> Vec<(u32, [Arm; 2])> {
        let [Some(a), Some(b)] = self.primary_pair() else { return Vec::new() };
        let changes = |arm: &Arm| arm.view != Access::None && arm.timing == Timing::Strict;
        if ![a, b].into_iter().any(changes) {
            return Vec::new();
        }
        let with_margin = |margin: u32, arm: &Arm| match changes(arm) {
            false => arm.clone(),
            true => Arm {
                name: format!("{}-{margin}s", arm.name),
                timing_margin_seconds: margin,
                thought_dropout: 0.0,
                trained_as: Some(self.trained(arm).name),
                targets: None,
                ..arm.clone()
            },
        };
        let margins = self.evaluation.timing_margins_seconds.iter();
        margins.map(|&margin| (margin, [a, b].map(|arm| with_margin(margin, arm)))).collect()
    }

    /// Every arm that is scored: the declared ones, and those with a timing margin.
    pub fn scored_arms(&self) -> Vec<Arm> {
        let mut arms = self.arms.clone();
        for arm in self.margin_pairs().into_iter().flat_map(|(_, pair)| pair) {
            if !arms.iter().any(|known| known.name == arm.name) {
                arms.push(arm);
            }
        }
        arms
    }

    /// The primary comparison alone, with each other length of replies: an experiment in a folder inside this one's.
    pub fn with_other_replies(&self) -> Vec<(ReplyTokens, Self)> {
        let [Some(a), Some(b)] = self.primary_pair() else { return Vec::new() };
        let pair = [a, b].map(|arm| arm.name.clone());
        let models = [a, b].map(|arm| self.trained(arm).name);
        let is_needed = |arm: &&Arm| pair.contains(&arm.name) || models.contains(&arm.name);
        let arms: Vec<Arm> = self.arms.iter().filter(is_needed).cloned().collect();
        let [a, b] = pair;
        let one = |&tokens: &ReplyTokens| {
            let mut data = self.data.clone();
            data.assistant_tokens = ReplyTokensList(vec![tokens]);
            let EvaluationSection { draws, row_tokens, margin, .. } = self.evaluation;
            let experiment = Self {
                name: format!("{REPLIES}{tokens}"),
                output: self.folder(),
                data,
                evaluation: EvaluationSection { draws, row_tokens, margin, ..EvaluationSection::default() },
                arms: arms.clone(),
                comparisons: vec![DeclaredComparison { a: a.clone(), b: b.clone(), primary: true }],
                ..self.clone()
            };
            (tokens, experiment)
        };
        self.data.assistant_tokens.0.iter().skip(1).map(one).collect()
    }
}

impl Experiment {
    /// Whether it is a stage of another experiment. It tests nobody, as no study can.
    fn is_stage(&self) -> bool {
        let SplitSection { test, test_users, folds, .. } = &self.split;
        self.name == STAGES && *test == 0.0 && test_users.is_empty() && *folds == Folds::Count(0)
    }

    /// Each stage as an experiment of its own, with one arm and the earlier stages. Its conversations share no user and no
    /// long user message with this experiment's.
    pub fn stage_experiments(&self) -> Vec<Self> {
        // The earlier stages of a stage stand beside it.
        let (output, tested) = match self.is_stage() {
            true => (self.output.clone(), &[][..]),
            false => (self.folder(), self.data.path.as_slice()),
        };
        let except = tested.iter().chain(self.data.except.as_slice()).cloned().collect();
        let except = Paths::Several(except);
        let one = |(index, stage): (usize, &StageSection)| Self {
            name: STAGES.to_owned(),
            seeds: Seeds::default(),
            output: output.clone(),
            data: DataSection {
                path: stage.path.clone(),
                except: except.clone(),
                conversations: stage.conversations,
                on_invalid: stage.on_invalid,
                on_too_long: stage.on_too_long,
                targets: stage.targets.clone(),
                ..self.data.laid_out()
            },
            split: stage.split(self.split.seed),
            training: stage.training(&self.training),
            evaluation: EvaluationSection::default(),
            stages: self.stages[..index].iter().map(|earlier| earlier.explicit(&self.training)).collect(),
            arms: vec![Arm { name: stage.name.clone(), ..Arm::default() }],
            comparisons: Vec::new(),
            ..self.clone()
        };
        self.stages.iter().enumerate().map(one).collect()
    }
}
