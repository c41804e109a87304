"""What a translated picture is worth: how well it was warped, and how it looks."""
