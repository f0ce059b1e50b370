//! Small operations, enough to write any network with; methods of [`Tensor`](crate::Tensor).

mod arithmetic;
mod broadcast;
mod dropout;
mod shape;
