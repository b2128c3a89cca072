"""Model files, which may be hostile: tensors, configurations and tokenizers are checked before they are used."""
