//! The tasks that need a lab or loaded programs. They are in a program of their own, `edge-tasks`, since building its
//! dependencies takes minutes.

use std::ffi::OsString;

/// Name of the program.
pub const PROGRAM: &str = "edge-tasks";

/// A task, as `cargo xtask --help` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub name: &'static str,
    pub about: &'static str,
    /// Whether it always needs the programs and packages of a lab.
    pub has_lab: bool,
}

pub const BENCH: Task = Task {
    name: "bench",
    about: "Measure packets, the control plane, and others beside this load balancer (root)",
    has_lab: false,
};
pub const BUDGETS: Task = Task {
    name: "budgets",
    about: "Count the instructions of the programs, and compare them with `tests/budgets.toml` (root)",
    has_lab: false,
};
pub const VM: Task = Task {
    name: "vm",
    about: "Load the programs, and run packets and a lab, on other kernels under qemu (root)",
    has_lab: true,
};
pub const LAB: Task = Task {
    name: "lab",
    about: "A network of namespaces with clients, the load balancer, and two providers",
    has_lab: true,
};
pub const OUTAGES: Task = Task {
    name: "outages",
    about: "Replay real outages in the lab, and see whether each is met (root)",
    has_lab: true,
};
pub const DEMO: Task = Task {
    name: "demo",
    about: "Show what the load balancer does while backends, a provider and its own controller die",
    has_lab: true,
};

/// All tasks, in the order of the list.
pub const ALL: [Task; 6] = [BENCH, BUDGETS, VM, LAB, OUTAGES, DEMO];

impl Task {
    /// The task that a command line names, as the command or as the subject of `help`.
    pub fn of(words: &[OsString]) -> Option<Self> {
        let name = match words {
            [help, name, ..] if help == "help" => name,
            [name, ..] => name,
            [] => return None,
        };
        ALL.into_iter().find(|task| name == task.name)
    }

    /// Whether the task loads programs or lays out a lab with this command line. For help, and for the use of a running
    /// lab, it does neither.
    pub fn needs_set_up(self, words: &[OsString]) -> bool {
        let is_help = |word: &OsString| word == "--help" || word == "-h";
        let wants_help = words.first().is_some_and(|word| word == "help")
            || words.iter().take_while(|word| *word != "--").any(is_help);
        !wants_help && (self != LAB || words.get(1).is_some_and(|word| word == "up"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn a_task_is_found_by_its_name_and_in_help() {
        for line in ["vm", "vm --kernel 6.1 -- uname -r", "help vm"] {
            assert_eq!(Task::of(&words(line)), Some(VM), "{line}");
        }
        for line in ["", "help", "--help", "test", "help test", "test vm"] {
            assert_eq!(Task::of(&words(line)), None, "{line}");
        }
    }

    #[test]
    fn only_what_makes_a_lab_or_loads_programs_needs_set_up() {
        let needs = |line: &str| {
            let words = words(line);
            Task::of(&words).expect("a task").needs_set_up(&words)
        };
        for line in ["demo --json", "lab up", "vm -- ls -h", "outages leap-second"] {
            assert!(needs(line), "{line}");
        }
        for line in ["help demo", "demo --help", "bench packets -h", "lab", "lab down", "lab shell edge -- ip link"] {
            assert!(!needs(line), "{line}");
        }
    }
}
