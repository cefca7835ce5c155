//! The last plan, worked out anew when what it follows from has changed.

use hawser_model::NodeName;

use crate::memory::Roster;
use crate::plan::{Plan, Problem, plan};
use crate::resolve::Answers;
use crate::view::Inputs;

/// What a plan follows from.
#[derive(Clone, PartialEq)]
struct Basis {
    inputs: Inputs,
    roster: Roster,
    answers: Answers,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Planner {
    last: Option<(Basis, Result<Plan, Problem>)>,
    is_new: bool,
}

impl Planner {
    /// The plan of [`plan`].
    pub(crate) fn plan(
        &mut self,
        inputs: &Inputs,
        roster: &Roster,
        node: &NodeName,
        answers: &Answers,
    ) -> Result<Plan, Problem> {
        let basis = Basis { inputs: inputs.clone(), roster: roster.clone(), answers: answers.clone() };
        let known = self.last.as_ref().is_some_and(|(last, _)| *last == basis);
        let plan = match self.last.take().filter(|_| known) {
            Some((_, plan)) => plan,
            None => plan(inputs, roster, node, answers),
        };
        // Of equal ones the newer objects are kept, which others have too.
        self.last = Some((basis, plan.clone()));
        self.is_new |= !known;
        plan
    }

    /// Whether a plan was worked out since this was asked last.
    pub(crate) fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }

    /// Forgets it.
    pub(crate) fn clear(&mut self) {
        self.last = None;
    }
}
