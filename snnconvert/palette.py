"""The colours of all pictures, told apart by colour-blind eyes, too (Okabe and Ito)."""

BLUE, ORANGE, GREEN, GREY, PALE = "#0072B2", "#D55E00", "#009E73", "#595959", "#EFEFEF"
