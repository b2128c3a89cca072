"""The forward pass of a frozen UNet, in which the ports are explicit calls."""
