//! Evacuations: services leave a pool, and return to it, at an operator's request.

use super::Controller;
use crate::control::{
    data_plane::DataPlane,
    evacuation::{self, Evacuation, Request},
    operations::{OperationError, Outcome},
};

impl<P: DataPlane> Controller<P> {
    pub(crate) fn evacuate(
        &mut self,
        evacuations: &mut Vec<Evacuation>,
        request: Request<'_>,
    ) -> Result<Outcome, OperationError> {
        let Self { inventory, plane, judgement, reach, events, .. } = self;
        let condition = |backend| judgement.condition(reach, backend);
        let outcome = evacuation::carry_out(inventory, plane, &condition, events, evacuations, request)?;
        self.after_moves()?;
        Ok(outcome)
    }

    pub(crate) fn end_evacuation(
        &mut self,
        evacuations: &mut Vec<Evacuation>,
        pool: &str,
        why: &str,
    ) -> Result<Outcome, OperationError> {
        let Self { inventory, plane, judgement, reach, events, .. } = self;
        let condition = |backend| judgement.condition(reach, backend);
        let outcome = evacuation::bring_back(inventory, plane, &condition, events, evacuations, pool, why)?;
        self.after_moves()?;
        Ok(outcome)
    }

    pub(crate) fn end_displaced(
        &mut self,
        evacuations: &mut Vec<Evacuation>,
        service: &str,
    ) -> Result<(), OperationError> {
        let Self { inventory, plane, events, .. } = self;
        evacuation::end_displaced(inventory, plane, events, evacuations, service)?;
        self.after_moves()
    }

    fn after_moves(&mut self) -> Result<(), OperationError> {
        self.report_moves();
        // A pool that services have moved to may have too few backends up.
        Ok(self.judge(Vec::new())?)
    }
}
