//! The threads: data-plane workers, each a current-thread runtime, and the control runtime beside them.
