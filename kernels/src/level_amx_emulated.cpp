// The code for AMX over emulated tiles: slow, never chosen by itself, here to be tested anywhere.
#define WB_EMULATE_AMX
#include "level_amx.cpp"
