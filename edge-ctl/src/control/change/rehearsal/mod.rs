//! The rehearsal of a staged generation: packets for each VIP and service go through the real program, over the tables
//! that are about to be published, and must leave as planned. If a packet leaves otherwise, or has no verdict, the
//! generation is not published.

mod error;
mod packets;

pub(crate) use self::error::RehearsalError;
use self::packets::{Probed, Scene, scenes};
use crate::{
    bpf::{Answer, Expected, PinnedMaps, Staged},
    config::Config,
    control::{chain, inventory::Inventory},
    plan::{self, Image},
    xdp::{Ran, Rehearsal, XdpError},
};

/// Number of times that a scene is played until a difference is believed: states, owners and next hops may change
/// between the prediction and the packet.
const TIMES: u32 = 3;
/// Flows that are recorded at a time, at most.
const RECORDED: usize = 2048;

/// The program for rehearsals, loaded when it is first needed.
#[derive(Default)]
pub(crate) struct Rehearser(Option<Rehearsal>);

impl Rehearser {
    /// A rehearser with a loaded program.
    pub(crate) const fn ready(rehearsal: Rehearsal) -> Self {
        Self(Some(rehearsal))
    }

    /// Whether the program is already loaded for these maps.
    pub(crate) fn is_ready(&self, maps: &PinnedMaps) -> bool {
        self.0.as_ref().is_some_and(|rehearsal| rehearsal.is_of(maps))
    }

    fn over(&mut self, maps: &PinnedMaps) -> Result<&mut Rehearsal, XdpError> {
        let rehearsal = match self.0.take() {
            Some(rehearsal) if rehearsal.is_of(maps) => rehearsal,
            // No program is loaded, or it belongs to maps that have been replaced.
            _ => Rehearsal::load(maps)?,
        };
        Ok(self.0.insert(rehearsal))
    }

    /// Rehearses the generation in force: whether the program of this version treats it as this version plans. Returns
    /// the reason if there is no plan to compare with: that is no fault of the program.
    ///
    /// # Errors
    /// As for a candidate, see `rehearse`; and if the generation cannot be read.
    pub(crate) fn rehearse_in_force(
        &mut self,
        maps: &PinnedMaps,
        in_force: &Inventory,
    ) -> Result<Option<String>, RehearsalError> {
        let config = &in_force.config;
        let planned = maps.with_previous(|previous| plan::plan(config, maps.capacity(), previous));
        match planned.map_err(RehearsalError::Unreadable)? {
            // Planned after itself, a generation keeps its regions and numbers.
            Ok(image) if image.keeps_all() => self.rehearse(maps, config, &image, maps.in_force()).map(|()| None),
            Ok(_) => Ok(Some("this version plans the generation in force otherwise than it was published".to_owned())),
            Err(error) => Ok(Some(format!("this version cannot plan the generation in force: {}", chain(&error)))),
        }
    }

    /// Plays all scenes of `config`, whose image is staged.
    ///
    /// # Errors
    /// The first packet that leaves otherwise than planned, or has no verdict; or the reason why no rehearsal is possible
    /// on this host.
    pub(super) fn rehearse(
        &mut self,
        maps: &PinnedMaps,
        config: &Config,
        image: &Image,
        staged: Staged,
    ) -> Result<(), RehearsalError> {
        let impossible = |source| RehearsalError::Impossible(Box::new(source));
        let rehearsal = self.over(maps).map_err(impossible)?;
        let over_again = |rehearsal: &mut Rehearsal, expected: &Expected<'_>| {
            let (published, backends) = maps.staged(staged)?;
            rehearsal.publish(&published, &backends, expected.nat_head())
        };
        let mut expected = maps.expected(image, staged);
        over_again(rehearsal, &expected).map_err(impossible)?;
        for scene in scenes(config) {
            let mut times = 1;
            while let Err(error) = play(&scene, &expected, rehearsal, image) {
                if times == TIMES {
                    return Err(error);
                }
                times += 1;
                expected = maps.expected(image, staged);
                over_again(rehearsal, &expected).map_err(impossible)?;
            }
            if expected.recorded() > RECORDED {
                expected.forget();
                rehearsal.forget().map_err(impossible)?;
            }
        }
        Ok(())
    }
}

fn play(
    scene: &Scene,
    expected: &Expected<'_>,
    rehearsal: &mut Rehearsal,
    image: &Image,
) -> Result<(), RehearsalError> {
    for Probed { what, frame } in &scene.packets {
        let wanted = expected.answer(frame);
        let ran = rehearsal.run(frame, wanted.exit);
        let came = ran.map_err(|source| RehearsalError::NoVerdict {
            subject: scene.subject.clone(),
            packet: what.clone(),
            source,
        })?;
        if !agree(&wanted, &came) {
            return Err(RehearsalError::Different {
                subject: scene.subject.clone(),
                packet: what.clone(),
                expected: described(&wanted, image),
                came: difference(&wanted, &came),
            });
        }
    }
    Ok(())
}

fn agree(wanted: &Answer, came: &Ran) -> bool {
    came.kept_its_word && came.exit == wanted.exit && came.frame == wanted.frame
}

fn described(wanted: &Answer, image: &Image) -> String {
    let exit = wanted.exit.name();
    match image.snapshot.name_of(wanted.backend) {
        Some(backend) => format!("{exit} to {backend}"),
        None => exit.to_owned(),
    }
}

fn difference(wanted: &Answer, came: &Ran) -> String {
    let exit = came.exit.name();
    if !came.kept_its_word {
        return format!("{exit}, with the verdict of another exit");
    }
    if came.exit != wanted.exit {
        return exit.to_owned();
    }
    let pairs = came.frame.iter().zip(&wanted.frame);
    let at = pairs.take_while(|(came, wanted)| came == wanted).count();
    format!("{exit} with another frame, from byte {at} on")
}
