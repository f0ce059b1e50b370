//! What must be fast: threads, buffers, matrix products, attention, norms, optimiser steps.
